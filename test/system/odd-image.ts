/**
 * Odd images, started for real: a table of cases becomes one OCI layout on the machine, and each case one container.
 *
 * Invariant of every case, whatever it expects: stdout, stderr and status are exactly as said; a refusal is one line
 * and a hint, free of control characters. Afterwards nothing is left of any container, and nothing was written outside.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { assertPrintable } from '../hostile/harness.ts';
import { ARCHITECTURE, OCI } from '../hostile/image.ts';
import { type Machine, type RunResult, sharedMachine, stdoutOf } from '../machine/machine.ts';
import { type BuiltEntry, directory, file, symlink, tar } from '../unit/archive/tar-builder.ts';
import { assertNothingLeft } from './container.ts';

// A configuration is whatever a case makes of it.
// biome-ignore lint/suspicious/noExplicitAny: that is the point
type Json = any;

export interface OddImage {
  /** `config` of the image configuration; PATH is /bin where there is no Env. */
  readonly config?: Json;
  /** The whole configuration, changed in place or replaced. */
  readonly document?: (document: Json) => Json;
  /** Layers, lowest first, over one that has busybox, /proc, /dev, /sys, /etc and /tmp (ROOT). */
  readonly layers?: readonly (readonly (BuiltEntry | Buffer)[])[];
  /** Instead of ROOT. */
  readonly root?: readonly (BuiltEntry | Buffer)[];
  /** Of oci-run. */
  readonly options?: readonly string[];
  readonly env?: Record<string, string>;
  /** What becomes of stdout before it is judged. */
  readonly show?: (stdout: string) => string;
  /** `systemctl stop` it once it said something. */
  readonly stop?: boolean;
  /** A command; a text is a script for the image's shell. */
  readonly run?: string | readonly string[];
}

export interface Ended {
  readonly status: number;
  readonly stdout?: string | RegExp;
  readonly stderr?: string | RegExp;
}
/** A text is all of stdout, with status 0 and nothing on stderr. */
export type Expected = string | RegExp | Ended | { readonly refused: number; readonly message: RegExp };
export type Case = readonly [name: string, image: OddImage, expected: Expected];

export const refused = (status: number, message: RegExp) => ({ refused: status, message });

const machine = sharedMachine();
const BUSYBOX_STATIC = readFileSync(join(machine.root, 'usr/bin/busybox'));
export const busyboxFile = (name: string, more: BuiltEntry = {}): BuiltEntry =>
  file(name, BUSYBOX_STATIC as unknown as string, { mode: 0o755, ...more });

const APPLETS = [
  'uniq',
  'mkfifo',
  'cp',
  'chown',
  'mv',
  'umount',
  'sh',
  'cat',
  'echo',
  'env',
  'id',
  'ls',
  'stat',
  'grep',
  'sort',
  'touch',
  'pwd',
  'sleep',
  'od',
  'mkdir',
  'readlink',
  'cut',
  'tr',
  'wc',
  'test',
  'true',
  'false',
  'seq',
  'rm',
  'find',
  'head',
  'printf',
  'sed',
  'awk',
  'hostname',
  'kill',
  'ln',
  'mount',
  'dd',
  'printenv',
];
export const PROGRAMS = [
  directory('bin'),
  busyboxFile('bin/busybox'),
  ...APPLETS.map((name) => symlink(`bin/${name}`, 'busybox')),
];
export const ROOT = [
  ...PROGRAMS,
  ...['proc', 'dev', 'sys', 'etc'].map((name) => directory(name)),
  directory('tmp', 0o1777),
  directory('root', 0o700),
];
/** /etc/passwd with these lines and /etc/group with those. */
export const users = (
  passwd: string | Uint8Array,
  group: string | Uint8Array = 'root:x:0:\n',
): BuiltEntry[] => [
  directory('etc'),
  file('etc/passwd', passwd as string),
  file('etc/group', group as string),
];
export const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001:Alice:/home/alice:/bin/sh\n';
export const GROUP = 'root:x:0:\nalice:x:1001:\nwheel:x:2000:bob,alice\naudio:x:2001:alice\n';

/** Runs "$@", whose unit is $0, and stops that once it has said something. */
const STOP = `
out=$(mktemp); "$@" >$out & pid=$!
while [ ! -s $out ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
[ ! -s $out ] || systemctl stop "$0"
wait $pid; status=$?; cat $out; rm $out; exit $status`;

/** Makes each case a test against its own image of one layout. */
export function odd(title: string, cases: readonly Case[]): void {
  const slug = createHash('sha256').update(title).digest('hex').slice(0, 8);
  const inside = `/var/tmp/odd-${slug}`;
  describe(title, () => {
    before(() => writeImages(join(machine.root, inside), cases));
    after(async () => {
      stdoutOf(await machine.run(['rm', '-rf', inside]));
      await assertNothingLeft(machine);
    });
    // beside each other: most of a start is waiting
    describe('images', { concurrency: 4 }, () => {
      for (const [index, [name, image, expected]] of cases.entries())
        test(name, async () => {
          const command = typeof image.run === 'string' ? ['/bin/sh', '-c', image.run] : (image.run ?? []);
          const unit = `odd-${slug}-${index}`;
          const argv = [
            'oci-run',
            '--quiet',
            '--pipe',
            '--unit',
            unit,
            ...(image.options ?? []),
            `oci:${inside}:c${index}`,
            ...command,
          ];
          const result = await machine.run(image.stop ? ['sh', '-c', STOP, unit, ...argv] : argv, {
            input: '',
            ...(image.env === undefined ? {} : { env: image.env }),
          });
          judge(
            image.show === undefined || result.status !== 0
              ? result
              : { ...result, stdout: image.show(result.stdout) },
            expected,
          );
        });
    });
  });
}

export function judge({ status, stdout, stderr }: RunResult, expected: Expected): void {
  if (typeof expected === 'object' && 'refused' in expected) {
    assert.deepEqual([status, stdout], [expected.refused, ''], stderr);
    const [message = '', hint = '', ...rest] = stderr.trimEnd().split('\n');
    assert.match(message, expected.message);
    assert.match(message, /^oci-run: /);
    assert.match(hint, /^hint: \S/);
    assert.deepEqual(rest, []);
    assertPrintable(message);
    assertPrintable(hint);
    return;
  }
  const all: Ended =
    typeof expected === 'string' || expected instanceof RegExp ? { status: 0, stdout: expected } : expected;
  // at once, so that a failure shows all of it
  assert.deepEqual(
    { status, stdout, stderr },
    { status: all.status, stdout: meant(stdout, all.stdout), stderr: meant(stderr, all.stderr) },
  );
}

/** What was got, where it matches. */
function meant(got: string, wanted: string | RegExp = ''): string | RegExp {
  return typeof wanted === 'object' && wanted.test(got) ? got : wanted;
}

/** One layout for all: what many images share is there once. */
function writeImages(path: string, cases: readonly Case[]): void {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(join(path, 'blobs/sha256'), { recursive: true });
  const put = (bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(path, 'blobs/sha256', hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const known = new Map<readonly unknown[], { diffID: string; blob: ReturnType<typeof put> }>();
  const layerOf = (parts: readonly (BuiltEntry | Buffer)[]) => {
    const found = known.get(parts);
    if (found !== undefined) return found;
    const archive = tar(...parts);
    const diffID = `sha256:${createHash('sha256').update(archive).digest('hex')}`;
    const layer = { diffID, blob: put(gzipSync(archive, { level: 1 })) };
    known.set(parts, layer);
    return layer;
  };
  const manifests = cases.map(([, image], index) => {
    const layers = [image.root ?? ROOT, ...(image.layers ?? [])].map(layerOf);
    const document = {
      os: 'linux',
      architecture: ARCHITECTURE,
      config: { Env: ['PATH=/bin'], ...image.config },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffID }) => diffID) },
    };
    const edited = image.document?.(document) ?? document;
    const config = put(Buffer.isBuffer(edited) ? edited : Buffer.from(JSON.stringify(edited)));
    const manifest = {
      schemaVersion: 2,
      mediaType: OCI.manifest,
      config: { mediaType: OCI.config, ...config },
      layers: layers.map(({ blob }) => ({ mediaType: `${OCI.layer}+gzip`, ...blob })),
    };
    return {
      mediaType: OCI.manifest,
      ...put(Buffer.from(JSON.stringify(manifest))),
      annotations: { 'org.opencontainers.image.ref.name': `c${index}` },
    };
  });
  writeFileSync(join(path, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(path, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
}

export { type Machine, machine };
