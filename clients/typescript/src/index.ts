/**
 * Parley: one gRPC API for every language model.
 *
 *     import { Client } from "@parley-gateway/client";
 *
 *     await using client = new Client("127.0.0.1:50051");
 *     console.log((await client.chat("mock/echo", "hello")).text);
 */

export { Client, type ClientOptions } from "./client.js";
export {
  assistant,
  audio,
  cached,
  developer,
  document,
  image,
  media,
  message,
  part,
  type Piece,
  type Source,
  system,
  toolResult,
  user,
} from "./content.js";
export { type Facts, GatewayError, InvalidOutput, ParleyError, type Violation } from "./failure.js";
export { Fold, fold } from "./fold.js";
export * from "./reasons.js";
export { Embeddings, Reply, ToolCall } from "./reply.js";
export type {
  CallOptions,
  ChatOptions,
  EmbedOptions,
  FunctionTool,
  Prompt,
  RerankOptions,
  StreamOptions,
} from "./request.js";
export { Stream } from "./stream.js";
export * as v1 from "./v1.js";
