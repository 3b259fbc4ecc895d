/** The W3C headers of the current span, where the program uses OpenTelemetry. */

type Api = typeof import("@opentelemetry/api");

let api: Api | undefined;
try {
  api = await import("@opentelemetry/api");
} catch {
  api = undefined; // it is an optional peer: a program without it has no spans
}

/** Empty where there is no span. */
export function traceHeaders(): Record<string, string> {
  const headers: Record<string, string> = {};
  api?.propagation.inject(api.context.active(), headers);
  return headers;
}
