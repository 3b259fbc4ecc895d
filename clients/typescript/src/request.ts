/** What can be asked beside the model and the conversation, and the messages that say so. */

import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import { user } from "./content.js";
import { Reply } from "./reply.js";
import * as v1 from "./v1.js";

/** A text, a message, a reply to go on from, or a list of those; strings are what the user says. */
export type Prompt = string | v1.Message | Reply | readonly (string | v1.Message | Reply)[];

export interface CallOptions {
  /** Seconds for the call; those of the client unless set. */
  timeout?: number;
  /** Aborting it cancels the call, and the work of the provider with it. */
  signal?: AbortSignal;
  /** gRPC metadata. */
  headers?: Record<string, string>;
}

export interface ChatOptions extends CallOptions {
  temperature?: number;
  /** Most tokens to generate, reasoning included. */
  maxOutputTokens?: number;
  /** End the answer before any of these texts. */
  stop?: string[];
  seed?: bigint | number;
  tools?: FunctionTool[];
  /** JSON Schema of the answer; `reply.json()` reads it. */
  schema?: { name?: string; schema: object; strict?: boolean };
  /** Models to ask, in this order, where the first one fails. */
  fallbacks?: string[];
  /** Makes a call that is sent twice one call, with one answer. */
  idempotencyKey?: string;
  /** Whatever the other options have no word for; they win over it. */
  request?: MessageInitShape<typeof v1.ChatRequestSchema>;
}

export interface StreamOptions extends ChatOptions {
  /** Go on by itself when the connection breaks; leaving the stream still ends the work. */
  resume?: boolean;
  /** The answer goes on without you, and can be taken up again by its response ID: `client.resume`. */
  resumable?: boolean;
  /** Send usage whenever the provider reports it. */
  usageUpdates?: boolean;
  /** The longest silence, in seconds. */
  heartbeatInterval?: number;
}

export interface EmbedOptions extends CallOptions {
  dimensions?: number;
  request?: MessageInitShape<typeof v1.EmbedRequestSchema>;
}

export interface RerankOptions extends CallOptions {
  /** Most documents to rank. */
  topN?: number;
  request?: MessageInitShape<typeof v1.RerankRequestSchema>;
}

/** A function that the model may call. `parameters`: the JSON Schema of its arguments. */
export interface FunctionTool {
  name: string;
  description?: string;
  parameters?: object;
  strict?: boolean;
}

/** The messages of a prompt. */
export function messages(prompt: Prompt): v1.Message[] {
  if (typeof prompt === "string") return [user(prompt)];
  if (prompt instanceof Reply) return [prompt.message];
  if ("$typeName" in prompt) return [prompt];
  return prompt.flatMap(messages);
}

export function chatRequest(model: string, prompt: Prompt, options: ChatOptions): v1.ChatRequest {
  const request = clone(v1.ChatRequestSchema, create(v1.ChatRequestSchema, options.request ?? {}));
  request.model = model || request.model;
  request.messages.push(...messages(prompt));
  const { temperature, maxOutputTokens, stop, seed } = options;
  if ([temperature, maxOutputTokens, stop, seed].some((wish) => wish !== undefined)) {
    const sampling = (request.sampling ??= create(v1.SamplingOptionsSchema));
    if (temperature !== undefined) sampling.temperature = temperature;
    if (maxOutputTokens !== undefined) sampling.maxOutputTokens = maxOutputTokens;
    if (stop !== undefined) sampling.stopSequences = stop;
    if (seed !== undefined) sampling.seed = BigInt(seed);
  }
  request.tools.push(...(options.tools ?? []).map(tool));
  if (options.schema) {
    const { name = "", schema, strict } = options.schema;
    const value = create(v1.JsonSchemaFormatSchema, { name, jsonSchema: JSON.stringify(schema) });
    if (strict !== undefined) value.strict = strict;
    (request.output ??= create(v1.OutputOptionsSchema)).format = { case: "jsonSchema", value };
  }
  if (options.fallbacks) {
    const routing = (request.routing ??= create(v1.RoutingOptionsSchema));
    routing.fallbacks.push(...options.fallbacks.map((name) => create(v1.FallbackTargetSchema, { model: name })));
  }
  if (options.idempotencyKey !== undefined) request.idempotencyKey = options.idempotencyKey;
  return request;
}

export function streamRequest(model: string, prompt: Prompt, options: StreamOptions): v1.StreamChatRequest {
  const wishes = create(v1.StreamOptionsSchema, {
    resumable: (options.resumable ?? false) || (options.resume ?? false),
    usageUpdates: options.usageUpdates ?? false,
  });
  if (options.heartbeatInterval !== undefined) {
    wishes.heartbeatInterval = durationFromMs(options.heartbeatInterval * 1000);
  }
  const value = chatRequest(model, prompt, options);
  return create(v1.StreamChatRequestSchema, { start: { case: "request", value }, options: wishes });
}

/** The request that asks for packed vectors, the cheapest to send and to read. */
export function embedRequest(model: string, inputs: string | readonly string[], options: EmbedOptions): v1.EmbedRequest {
  const request = clone(v1.EmbedRequestSchema, create(v1.EmbedRequestSchema, options.request ?? {}));
  request.model = model || request.model;
  request.encoding = v1.EmbeddingEncoding.FLOAT32_BYTES;
  for (const value of typeof inputs === "string" ? [inputs] : inputs) {
    request.inputs.push(create(v1.EmbedInputSchema, { kind: { case: "text", value } }));
  }
  if (options.dimensions !== undefined) request.dimensions = options.dimensions;
  return request;
}

export function rerankRequest(
  model: string,
  query: string,
  documents: readonly string[],
  options: RerankOptions,
): v1.RerankRequest {
  const request = clone(v1.RerankRequestSchema, create(v1.RerankRequestSchema, options.request ?? {}));
  request.model = model || request.model;
  request.query = query || request.query;
  request.documents.push(...documents);
  if (options.topN !== undefined) request.topN = options.topN;
  return request;
}

function tool({ name, description = "", parameters, strict }: FunctionTool): v1.Tool {
  const parametersJsonSchema = parameters ? JSON.stringify(parameters) : "";
  const value = create(v1.FunctionToolSchema, { name, description, parametersJsonSchema });
  if (strict !== undefined) value.strict = strict;
  return create(v1.ToolSchema, { kind: { case: "function", value } });
}

