/** The client: one connection to the gateway, and a method for each thing it can do. */

import { create } from "@bufbuild/protobuf";
import { Code, type CallOptions as RpcOptions, type Client as Stub, createClient, type Transport } from "@connectrpc/connect";
import { createGrpcTransport, type GrpcTransportOptions, Http2SessionManager } from "@connectrpc/connect-node";

import { fromRpc, ProtocolError } from "./errors.js";
import { Embeddings, Reply } from "./reply.js";
import {
  type CallOptions,
  chatRequest,
  type ChatOptions,
  embedRequest,
  type EmbedOptions,
  type Prompt,
  rerankRequest,
  type RerankOptions,
  type StreamOptions,
  streamRequest,
} from "./request.js";
import { forLookups, forModels } from "./policies.js";
import { Resumption } from "./resumption.js";
import { retried, type RetryPolicy } from "./retry.js";
import { Stream } from "./stream.js";
import { traceHeaders } from "./trace.js";
import * as v1 from "./v1.js";

const quick = 15; // seconds for calls that no model works on
const stopping = 5; // seconds for a gateway to be told that nobody wants an answer any more

export interface ClientOptions {
  /** Sent as a bearer token; PARLEY_TOKEN unless set. */
  token?: string;
  /** TLS: with the authorities that Node knows, or as `node:tls` takes it. */
  tls?: boolean | NonNullable<GrpcTransportOptions["nodeOptions"]>;
  /** Seconds for calls that do not say otherwise; 600 unless set. */
  timeout?: number;
  /** gRPC metadata of every call. */
  headers?: Record<string, string>;
  /** Instead of gRPC over Node's HTTP/2: any transport of Connect, such as gRPC-Web in a browser. */
  transport?: Transport;
}

/**
 * A connection to a Parley gateway, opened by the first call. Close it, or declare it with `await using`.
 *
 * An address is host:port; without one that of PARLEY_ADDRESS, else 127.0.0.1:50051. Every method throws a subclass of
 * `GatewayError` when its call fails.
 */
export class Client implements AsyncDisposable {
  readonly address: string;
  /** The generated client, for everything this class has no word for. It knows no token and no default timeout. */
  readonly stub: Stub<typeof v1.GatewayService>;
  readonly #timeout: number;
  readonly #headers: Record<string, string>;
  readonly #sessions: Http2SessionManager | undefined;

  constructor(address?: string, options: ClientOptions = {}) {
    this.address = address || env("PARLEY_ADDRESS") || "127.0.0.1:50051";
    if (this.address.includes("://")) {
      throw new TypeError(`${this.address}: an address is host:port; TLS is an option, { tls: true }`);
    }
    const token = options.token ?? env("PARLEY_TOKEN") ?? "";
    if (token && options.tls === undefined && !options.transport && !isLocal(this.address)) {
      const meant = "pass { tls: true }, or { tls: false } if that is meant";
      throw new TypeError(`the token would travel in clear to ${this.address}: ${meant}`);
    }
    this.#timeout = options.timeout ?? 600;
    this.#headers = { ...options.headers, ...(token && { authorization: `Bearer ${token}` }) };
    let transport = options.transport;
    if (!transport) {
      const baseUrl = `${options.tls ? "https" : "http"}://${this.address}`;
      const nodeOptions = typeof options.tls === "object" ? options.tls : undefined;
      this.#sessions = new Http2SessionManager(
        baseUrl,
        { pingIntervalMs: 30_000, pingTimeoutMs: 10_000 },
        nodeOptions as ConstructorParameters<typeof Http2SessionManager>[2],
      );
      transport = createGrpcTransport({ baseUrl, sessionManager: this.#sessions });
    }
    this.stub = createClient(v1.GatewayService, transport);
  }

  /** One turn of a model. */
  async chat(model: string, prompt: Prompt, options: ChatOptions = {}): Promise<Reply> {
    const request = chatRequest(model, prompt, options);
    return new Reply(await this.#call((rpc) => this.stub.chat(request, rpc), options));
  }

  /** One turn of a model, as it comes. Failures are thrown where it is read. */
  stream(model: string, prompt: Prompt, options: StreamOptions = {}): Stream {
    const request = streamRequest(model, prompt, options);
    return this.#stream(request, options, new Resumption(), options.resume ?? false, options.resumable ?? false);
  }

  /**
   * What comes after an event of a resumable stream, also one that another client began; 0: all of it. Both arguments are
   * what that stream had as `responseId` and `lastSequence`. It goes on by itself when its connection breaks; leaving it
   * leaves the answer to whoever began it.
   */
  resume(responseId: string, afterSequence = 0, options: CallOptions = {}): Stream {
    const value = create(v1.ResumeFromSchema, { responseId, afterSequence });
    const request = create(v1.StreamChatRequestSchema, { start: { case: "resume", value } });
    return this.#stream(request, options, new Resumption(responseId, afterSequence), true, true);
  }

  /** Vectors of texts, in their order. */
  async embed(model: string, inputs: string | readonly string[], options: EmbedOptions = {}): Promise<Embeddings> {
    const request = embedRequest(model, inputs, options);
    return new Embeddings(await this.#call((rpc) => this.stub.embed(request, rpc), options));
  }

  /** The documents by how well they answer `query`, best first. */
  async rerank(
    model: string,
    query: string,
    documents: readonly string[],
    options: RerankOptions = {},
  ): Promise<v1.RerankResponse> {
    const request = rerankRequest(model, query, documents, options);
    return this.#call((rpc) => this.stub.rerank(request, rpc), options);
  }

  /** All models that can be asked, ordered by ID; pages are fetched as they are needed. */
  async *models(
    which: { provider?: string; operation?: string; capabilities?: string[]; pageSize?: number } = {},
    options: CallOptions = {},
  ): AsyncGenerator<v1.Model, void, void> {
    const request = create(v1.ListModelsRequestSchema, which);
    for (;;) {
      const page = await this.#lookup((rpc) => this.stub.listModels(request, rpc), options);
      yield* page.models;
      if (!page.nextPageToken) return;
      if (page.nextPageToken === request.pageToken) {
        const message = "the gateway gives the same page of models again and again";
        const nothing = { retryable: false, requestId: "", violations: [], facts: {} };
        throw new ProtocolError({ code: Code.Internal, reason: "PROVIDER_PROTOCOL_ERROR", message, ...nothing });
      }
      request.pageToken = page.nextPageToken;
    }
  }

  /** One model. Throws ModelNotFound. */
  async model(model: string, options: CallOptions = {}): Promise<v1.Model> {
    const answer = await this.#lookup((rpc) => this.stub.getModel({ model }, rpc), options);
    return answer.model ?? create(v1.ModelSchema);
  }

  /** Version, features, providers and limits of the gateway. */
  async info(options: CallOptions = {}): Promise<v1.GetServerInfoResponse> {
    return this.#lookup((rpc) => this.stub.getServerInfo({}, rpc), options);
  }

  /** Close the connection; calls that still run are cancelled. */
  close(): void {
    this.#sessions?.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #lookup<T>(call: (rpc: RpcOptions) => Promise<T>, options: CallOptions): Promise<T> {
    return this.#call(call, { ...options, timeout: options.timeout ?? quick }, forLookups);
  }

  /** The answer of one call, or a typed error. All attempts together have the time of the call. */
  async #call<T>(
    call: (rpc: RpcOptions) => Promise<T>,
    options: CallOptions,
    policy: RetryPolicy = forModels,
  ): Promise<T> {
    const abort = new AbortController();
    const rpc = this.#rpc(options, abort);
    try {
      return await retried(() => call(rpc()), policy, abort.signal);
    } catch (error) {
      throw fromRpc(error, this.address, { aborted: abort.signal.aborted });
    }
  }

  #stream(
    request: v1.StreamChatRequest,
    options: CallOptions,
    at: Resumption,
    resumes: boolean,
    outlasts: boolean,
  ): Stream {
    const abort = new AbortController();
    const rpc = this.#rpc(options, abort);
    const read = (asked: v1.StreamChatRequest) => this.stub.streamChat(asked, rpc())[Symbol.asyncIterator]();
    const heartbeats = create(v1.StreamOptionsSchema);
    if (request.options?.heartbeatInterval) heartbeats.heartbeatInterval = request.options.heartbeatInterval;
    return new Stream(
      {
        address: this.address,
        abort,
        begin: () => retried(() => primed(read(request)), forModels, abort.signal),
        ...(resumes && {
          again: (responseId: string, afterSequence: number) => {
            const value = create(v1.ResumeFromSchema, { responseId, afterSequence });
            return read(create(v1.StreamChatRequestSchema, { start: { case: "resume", value }, options: heartbeats }));
          },
        }),
        stop: (responseId) => {
          if (!resumes || outlasts) return;
          // Nobody waits for this: a gateway that cannot be told stops at the end of the answer.
          void this.stub.cancelChat({ responseId }, { headers: this.#metadata({}), timeoutMs: stopping * 1000 }).catch(() => {});
        },
      },
      at,
    );
  }

  /** Options of the calls that are one call to its caller: what is left of its time, and its signal. */
  #rpc({ timeout = this.#timeout, signal, headers }: CallOptions, abort: AbortController): () => RpcOptions {
    if (signal?.aborted) abort.abort(signal.reason);
    signal?.addEventListener("abort", () => abort.abort(signal.reason), { once: true });
    const due = performance.now() + timeout * 1000;
    const sent = this.#metadata(headers ?? {});
    return () => ({
      signal: abort.signal,
      headers: sent,
      ...(Number.isFinite(timeout) && { timeoutMs: Math.max(1, Math.ceil(due - performance.now())) }),
    });
  }

  #metadata(headers: Record<string, string>): Record<string, string> {
    return { ...traceHeaders(), ...this.#headers, ...headers };
  }
}

/** The iterator, once it has brought its first event: until then a call may be made again. */
async function primed<T>(incoming: AsyncIterator<T>): Promise<AsyncIterator<T>> {
  let first: IteratorResult<T> | undefined = await incoming.next();
  return {
    next: async () => {
      const held = first;
      first = undefined;
      return held ?? incoming.next();
    },
  };
}

function env(name: string): string | undefined {
  return globalThis.process?.env[name];
}

function isLocal(address: string): boolean {
  const host = address.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || /^127\./.test(host);
}
