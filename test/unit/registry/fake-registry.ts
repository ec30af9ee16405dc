/** A registry on a loopback port whose every answer the test writes, and images for it to serve. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TestContext } from 'node:test';
import type { ByteRange } from '../../../src/oci/content.ts';
import type { Descriptor } from '../../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { OCI_CONFIG, OCI_MANIFEST } from '../../../src/oci/media-type.ts';
import type { SourceOptions } from '../../../src/source/open-source.ts';

export interface FakeServer {
  /** `127.0.0.1:PORT`. */
  readonly host: string;
  readonly port: number;
  /** `METHOD path`, with the authorization and range headers where there were any. */
  readonly requests: string[];
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void;

/** Closed when the test ends. */
export async function serve(t: TestContext, handler: Handler, tls?: ServerOptions): Promise<FakeServer> {
  const requests: string[] = [];
  const listener: RequestListener = (request, response) => {
    const { authorization, range } = request.headers;
    requests.push(
      [`${request.method} ${request.url}`, authorization && `auth=${authorization}`, range]
        .filter(Boolean)
        .join(' '),
    );
    handler(request, response);
  };
  const server: Server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { host: `127.0.0.1:${port}`, port, requests };
}

export function send(
  response: ServerResponse,
  status: number,
  body: string | Uint8Array = '',
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-length': String(Buffer.byteLength(body)), ...headers });
  response.end(body);
}

export interface FakeImage {
  readonly manifest: Buffer;
  readonly manifestDigest: Digest;
  readonly config: Buffer;
  readonly layer: Buffer;
  readonly layerDescriptor: Descriptor;
}

export function fakeImage(layer: Buffer = Buffer.from('layer bytes'), more: object = {}): FakeImage {
  const diffID = digestOf(layer); // the layer is an "uncompressed tar"
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: [diffID] },
      ...more,
    }),
  );
  const layerDescriptor: Descriptor = {
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    digest: digestOf(layer),
    size: layer.length,
  };
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: { mediaType: OCI_CONFIG, digest: digestOf(config), size: config.length },
      layers: [layerDescriptor],
    }),
  );
  return { manifest, manifestDigest: digestOf(manifest), config, layer, layerDescriptor };
}

/** Answers for repository `app` with tag `v1`; false where the path is none of them. */
export function serveImage(image: FakeImage, request: IncomingMessage, response: ServerResponse): boolean {
  const blobs = new Map([image.config, image.layer].map((blob) => [`/v2/app/blobs/${digestOf(blob)}`, blob]));
  const blob = blobs.get(request.url ?? '');
  if (request.url === '/v2/app/manifests/v1' || request.url === `/v2/app/manifests/${image.manifestDigest}`)
    send(response, 200, image.manifest, {
      'content-type': OCI_MANIFEST,
      'docker-content-digest': image.manifestDigest,
    });
  else if (blob) sendRange(request, response, blob);
  else return false;
  return true;
}

export function sendRange(request: IncomingMessage, response: ServerResponse, blob: Buffer): void {
  const from = Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  if (from === 0) send(response, 200, blob);
  else
    send(response, 206, blob.subarray(from), {
      'content-range': `bytes ${from}-${blob.length - 1}/${blob.length}`,
    });
}

/** As sendRange(), and any ranges, several of them as multipart/byteranges. */
export function sendRanges(request: IncomingMessage, response: ServerResponse, blob: Buffer): void {
  const ranges = (request.headers.range ?? '')
    .slice('bytes='.length)
    .split(',')
    .map((text) => {
      const [first, last] = text.split('-');
      return { offset: Number(first), end: last ? Number(last) + 1 : blob.length };
    });
  const [{ offset, end }] = ranges as [ByteRange];
  if (request.headers.range === undefined) send(response, 200, blob);
  else if (ranges.length > 1)
    send(response, 206, byteranges(blob, ranges, 'b0'), {
      'content-type': 'multipart/byteranges; boundary=b0',
    });
  else
    send(response, 206, blob.subarray(offset, end), {
      'content-range': `bytes ${offset}-${end - 1}/${blob.length}`,
    });
}

export function byteranges(blob: Buffer, ranges: readonly ByteRange[], boundary: string): Buffer {
  const parts = ranges.flatMap(({ offset, end }, i) => [
    `${i === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: application/octet-stream\r\n`,
    `Content-Range: bytes ${offset}-${end - 1}/${blob.length}\r\n\r\n`,
    blob.subarray(offset, end),
  ]);
  return Buffer.concat([...parts, `\r\n--${boundary}--\r\n`].map((part) => Buffer.from(part as string)));
}

/** Options that read no file of this machine and do not wait for long; `files` lie below the root. */
export function options(
  t: TestContext,
  more: SourceOptions = {},
  files: Record<string, string> = {},
): SourceOptions {
  const root = mkdtempSync(join(tmpdir(), 'ocictl-registry-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return {
    configRoot: root,
    env: { HOME: root },
    plainHttp: true,
    retry: { attempts: 3, baseDelayMs: 5, maxDelayMs: 10, budgetMs: 10_000 },
    timeouts: { connectMs: 2000, stallMs: 5000 },
    ...more,
  };
}

export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces);
}
