/** From a failed call to a typed error. */

import { Code, ConnectError } from "@connectrpc/connect";

import { type Facts, GatewayError } from "./failure.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";
import { ProviderErrorSchema, ResponseFailureSchema } from "./gen/parley/v1/error_pb.js";
import { byReason, nearest } from "./kinds.js";

export * from "./failure.js";
export * from "./reasons.js";

/** What a failed call means. `begun`: an event of the answer had arrived already; `aborted`: this side ended the call. */
export function fromRpc(cause: unknown, address: string, { begun = false, aborted = false } = {}): GatewayError {
  const error = ConnectError.from(cause);
  const facts = read(error);
  return made(facts.reason ? facts : explained(facts, address, begun, aborted));
}

/** The stream said OK without having completed. */
export function truncated(): GatewayError {
  const message = "the stream ended before the answer was complete, without saying why";
  return made({ ...nothing, code: Code.Unavailable, reason: "TRUNCATED", message });
}

const nothing = { retryable: false, requestId: "", violations: [], facts: {} } as const;

/** The error of its class: by its reason or, if that is not known with this code, by its code. */
function made(facts: Facts): GatewayError {
  const known = byReason[facts.reason];
  const waits = facts.retryAfter !== undefined;
  if (known && known[0] === facts.code) return new known[2]({ ...facts, retryable: known[1] || waits });
  const near = nearest[facts.code] ?? GatewayError;
  const retryable = waits || Object.values(byReason).some((row) => row[2] === near && row[1]);
  return new near({ ...facts, retryable });
}

function read(error: ConnectError): Facts {
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const [failure] = error.findDetails(ResponseFailureSchema);
  const [providerError] = error.findDetails(ProviderErrorSchema);
  const [request] = error.findDetails(RequestInfoSchema);
  const attempts = Number(info?.metadata["attempts"] ?? error.metadata.get("x-parley-attempts") ?? failure?.attempts);
  const delay = retry?.retryDelay;
  return {
    code: error.code,
    reason: info?.reason ?? "",
    message: error.rawMessage,
    retryable: false,
    retryAfter: delay && Number(delay.seconds) + delay.nanos / 1e9,
    requestId: error.metadata.get("x-request-id") ?? request?.requestId ?? info?.metadata["requestId"] ?? "",
    violations: error
      .findDetails(BadRequestSchema)
      .flatMap((bad) => bad.fieldViolations)
      .map(({ field, description, reason }) => ({ field, description, reason })),
    providerError,
    attempts: attempts || undefined,
    failure,
    facts: info?.metadata ?? {},
    cause: error,
  };
}

/** A status that no gateway wrote: the connection, or a proxy on the way. */
function explained(facts: Facts, address: string, begun: boolean, aborted: boolean): Facts {
  const { message } = facts;
  switch (!aborted && isBroken(facts) ? Code.Unavailable : facts.code) {
    case Code.Unavailable: {
      const advice = begun ? "" : adviceFor(message);
      const said = advice
        ? `no gateway answers at ${address}: ${advice} (${message})`
        : `the connection to ${address} failed before the answer was complete (${message})`;
      return { ...facts, code: Code.Unavailable, reason: "CONNECTION_FAILED", message: said };
    }
    case Code.DeadlineExceeded: {
      const said = "the answer was not complete when the call's time was over";
      return { ...facts, reason: "DEADLINE_EXCEEDED", message: said };
    }
    case Code.Canceled:
      return { ...facts, reason: "CANCELLED", message: "the call was cancelled before the answer was complete" };
    case Code.ResourceExhausted:
      if (message.includes("larger than")) return { ...facts, reason: "MESSAGE_TOO_LARGE" };
      break;
    case Code.Unimplemented: {
      const said = `what answers at ${address} does not offer this call: another service, or an older gateway`;
      return { ...facts, reason: "UNIMPLEMENTED", message: `${said} (${message})` };
    }
  }
  const name = Code[facts.code] ?? "Unknown";
  return { ...facts, reason: name.replace(/(?<=.)([A-Z])/g, "_$1").toUpperCase() };
}

/** Whether a connection, or an HTTP/2 stream of it, was reset: Node has several words and codes for that. */
function isBroken({ code, message }: Facts): boolean {
  const vague = code === Code.Canceled || code === Code.Aborted || code === Code.Internal || code === Code.Unknown;
  return vague && /econn|epipe|socket|reset|closed|goaway|http\/?2|network/i.test(message);
}

/** What to do about a connection that could not be had; "" if it was had, and broke. */
function adviceFor(message: string): string {
  if (/certificate|tls|ssl/i.test(message)) return "do both sides agree on TLS, and is the certificate known here?";
  if (/enotfound|eai_again/i.test(message)) return "is the name right?";
  if (/econnrefused/i.test(message)) return "is it running? `make run` in a checkout of Parley starts one";
  return "";
}
