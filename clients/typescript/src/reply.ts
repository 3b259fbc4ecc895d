/** Answers as TypeScript sees them. `raw` is always the message itself. */

import { InvalidOutput } from "./failure.js";
import * as v1 from "./v1.js";

/** A call that the model wants made. `argumentsJson` is what it wrote, which may be no JSON. */
export class ToolCall {
  constructor(
    readonly id: string,
    readonly name: string,
    readonly argumentsJson: string,
  ) {}

  /** The arguments by name. Throws InvalidOutput if the model wrote something else than a JSON object. */
  get arguments(): Record<string, unknown> {
    const value = parse(this.argumentsJson || "{}", `the arguments of ${this.name}`);
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new InvalidOutput(`the arguments of ${this.name} are no JSON object: ${this.argumentsJson.slice(0, 200)}`);
    }
    return value as Record<string, unknown>;
  }
}

/** One turn of a model. Put `reply.message` back where it was said to go on. */
export class Reply {
  constructor(readonly raw: v1.ChatResponse) {}

  get message(): v1.Message {
    if (!this.raw.message) throw new InvalidOutput("the answer has no message");
    return this.raw.message;
  }

  /** The text, without reasoning and refusals. */
  get text(): string {
    return this.#joined((part) => (part.case === "text" ? part.value : ""));
  }

  /** The reasoning, as far as the provider shows it. */
  get reasoning(): string {
    return this.#joined((part) => (part.case === "reasoning" ? part.value.text : ""));
  }

  /** What the model said to decline, or "". */
  get refusal(): string {
    return this.#joined((part) => (part.case === "refusal" ? part.value.text : ""));
  }

  /** The calls that the model wants made, in order. */
  get toolCalls(): ToolCall[] {
    return this.#parts().flatMap((part) =>
      part.case === "toolCall" ? [new ToolCall(part.value.id, part.value.name, part.value.argumentsJson)] : [],
    );
  }

  /**
   * Why generation ended: "stop", "length", "tool_call", …; "unspecified" for one that is not known here, and before the
   * end of a stream. `raw.nativeFinishReason` is the provider's own word.
   */
  get finishReason(): string {
    return (v1.FinishReason[this.raw.finishReason] ?? "UNSPECIFIED").toLowerCase();
  }

  /** Tokens; fields that are undefined were not reported. */
  get usage(): v1.Usage | undefined {
    return this.raw.usage;
  }

  /** Cost in billionths of a US dollar, exactly; undefined if a price is unknown. */
  get costNanoUsd(): bigint | undefined {
    return this.raw.usage?.cost?.totalNanoUsd;
  }

  /** Who answered, and after which attempts. */
  get route(): v1.RouteInfo | undefined {
    return this.raw.route;
  }

  /** Wishes that were left out, and other notes. */
  get warnings(): v1.Warning[] {
    return this.raw.warnings;
  }

  /** The text parsed as JSON. Throws InvalidOutput, which says so if the answer was cut off or declined. */
  json(): unknown {
    return parse(this.text, `the answer (finish reason ${this.finishReason})`);
  }

  #parts(): v1.Part["kind"][] {
    return this.raw.message?.parts.map((part) => part.kind) ?? [];
  }

  #joined(text: (part: v1.Part["kind"]) => string): string {
    return this.#parts().map(text).join("");
  }
}

/** Vectors in the order of their inputs. */
export class Embeddings {
  /** One for each input. */
  readonly vectors: Float32Array[];

  constructor(readonly raw: v1.EmbedResponse) {
    this.vectors = raw.embeddings.map(({ vector }, index) => {
      switch (vector.case) {
        case "packed":
          return unpacked(vector.value, index);
        case "floats":
          return Float32Array.from(vector.value.values);
        default:
          throw new InvalidOutput(`embedding ${index} comes in a form that this client does not know`);
      }
    });
  }
}

/** Little-endian numbers of 32 bits, whatever this machine's order. */
function unpacked(bytes: Uint8Array, index: number): Float32Array {
  if (bytes.length % 4) throw new InvalidOutput(`embedding ${index} is no vector of 32-bit numbers`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.length / 4 }, (_, at) => view.getFloat32(4 * at, true));
}

function parse(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InvalidOutput(`${what} is no JSON: ${text.slice(0, 200)}`, { cause });
  }
}
