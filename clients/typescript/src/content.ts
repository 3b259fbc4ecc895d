/**
 * What goes into a conversation: messages by author, and parts for what is not plain text.
 *
 *     const messages = [system("Be brief."), user("What is on this picture?", await image("cat.png"))];
 */

import { readFile } from "node:fs/promises";
import { basename, extname } from "node:path";

import { clone, create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";

import type { ToolCall } from "./reply.js";
import * as v1 from "./v1.js";

/** A string is a text part. */
export type Piece = string | v1.Part;

/** Where media comes from: a path, the raw bytes (with their media type), or a URL that the provider fetches. */
export type Source = string | URL | { data: Uint8Array; mimeType: string };

/** `piece` as a part. */
export function part(piece: Piece): v1.Part {
  return typeof piece === "string" ? create(v1.PartSchema, { kind: { case: "text", value: piece } }) : piece;
}

/** A message of `role`. */
export function message(role: v1.Role, ...pieces: Piece[]): v1.Message {
  return create(v1.MessageSchema, { role, parts: pieces.map(part) });
}

/** Instructions of whoever operates the application. */
export const system = (...pieces: Piece[]): v1.Message => message(v1.Role.SYSTEM, ...pieces);

/** Instructions of the developer; system instructions where the provider has no such role. */
export const developer = (...pieces: Piece[]): v1.Message => message(v1.Role.DEVELOPER, ...pieces);

/** What the end user says: text, images, documents, audio. */
export const user = (...pieces: Piece[]): v1.Message => message(v1.Role.USER, ...pieces);

/** What the model said. For a turn that a model really gave, use `reply.message`: it keeps what replay needs. */
export const assistant = (...pieces: Piece[]): v1.Message => message(v1.Role.ASSISTANT, ...pieces);

/** The result of a tool call. `isError`: the tool failed, and says how. */
export function toolResult(call: ToolCall, result: Piece | Piece[], options: { isError?: boolean } = {}): v1.Message {
  const parts = (Array.isArray(result) ? result : [result]).map(part);
  const value = create(v1.ToolResultSchema, {
    toolCallId: call.id,
    name: call.name,
    parts,
    isError: options.isError ?? false,
  });
  return message(v1.Role.TOOL, create(v1.PartSchema, { kind: { case: "toolResult", value } }));
}

/** An image. */
export async function image(source: Source): Promise<v1.Part> {
  const value = create(v1.ImagePartSchema, { source: await media(source) });
  return create(v1.PartSchema, { kind: { case: "image", value } });
}

/** A recording. */
export async function audio(source: Source): Promise<v1.Part> {
  const value = create(v1.AudioPartSchema, { source: await media(source) });
  return create(v1.PartSchema, { kind: { case: "audio", value } });
}

/** A document, such as a PDF or a text. `title` is the file's name if it is not given. */
export async function document(
  source: Source,
  options: { title?: string; context?: string; citations?: boolean } = {},
): Promise<v1.Part> {
  const { citations, ...said } = options;
  const title = said.title ?? (typeof source === "string" && !isUrl(source) ? basename(source) : "");
  const value = create(v1.DocumentPartSchema, { ...said, title, source: await media(source) });
  if (citations !== undefined) value.citationsEnabled = citations;
  return create(v1.PartSchema, { kind: { case: "document", value } });
}

/** `piece`, marked as the end of a prompt prefix that the provider may keep, for `ttl` seconds if that is given. */
export function cached(piece: Piece, ttl?: number): v1.Part {
  const marked = clone(v1.PartSchema, part(piece));
  marked.cacheBreakpoint = create(v1.CacheBreakpointSchema);
  if (ttl !== undefined) marked.cacheBreakpoint.ttl = durationFromMs(ttl * 1000);
  return marked;
}

/** `source` as the API wants it. Reads files. Throws a TypeError where the media type cannot be told. */
export async function media(source: Source): Promise<v1.MediaSource> {
  if (source instanceof URL || (typeof source === "string" && isUrl(source))) {
    const uri = String(source);
    if (uri.startsWith("data:")) throw new TypeError("data: URIs are not accepted; pass the bytes");
    return create(v1.MediaSourceSchema, { source: { case: "uri", value: uri } });
  }
  const data = typeof source === "string" ? await readFile(source) : (source as { data: Uint8Array }).data;
  const mimeType = typeof source === "string" ? kinds[extname(source).toLowerCase()] : (source as { mimeType: string }).mimeType;
  if (!mimeType) throw new TypeError(`what kind of media is ${String(source)}? Pass { data, mimeType }`);
  return create(v1.MediaSourceSchema, { source: { case: "data", value: new Uint8Array(data) }, mimeType });
}

const isUrl = (text: string): boolean => text.includes("://") || text.startsWith("data:");

const kinds: Record<string, string> = {
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".gif": "image/gif",
  ".webp": "image/webp",
  ".pdf": "application/pdf",
  ".txt": "text/plain",
  ".md": "text/markdown",
  ".html": "text/html",
  ".csv": "text/csv",
  ".json": "application/json",
  ".wav": "audio/wav",
  ".mp3": "audio/mpeg",
  ".flac": "audio/flac",
  ".ogg": "audio/ogg",
};
