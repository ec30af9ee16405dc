/**
 * One thing done to a store, and, as a program of its own, killed before the change of a name that is said: `node
 * store-step.ts N STEP STORE RUN_ROOT WORD…`. For tests.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { convertImage } from '../../../src/convert-image.ts';
import { collectGarbage } from '../../../src/gc.ts';
import type { Platform } from '../../../src/oci/platform.ts';
import { pullImage } from '../../../src/pull.ts';
import { removeImage } from '../../../src/remove-image.ts';
import type { StoreFormat } from '../../../src/store/layout.ts';
import { openStore } from '../../../src/store/store.ts';

export const PLATFORM: Platform = {
  os: 'linux',
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
};
const signal = new AbortController().signal;

export const STEPS = {
  async pull(root: string, _runRoot: string, ref: string, localName: string): Promise<void> {
    const store = openStore({ root, create: true })!;
    await pullImage({ store, name: ref, localName, platform: PLATFORM, source: {}, format: 'composefs' });
  },
  async convert(root: string, runRoot: string, name: string, to: string): Promise<void> {
    const store = openStore({ root })!;
    const image = store.lookup([name])!;
    await convertImage({ store, image, to: to as StoreFormat, runRoot, source: {}, waiting: {}, signal });
  },
  async rm(root: string, runRoot: string, name: string): Promise<void> {
    await removeImage(openStore({ root }), name, runRoot, {});
  },
  async gc(root: string, runRoot: string): Promise<number> {
    const gone = () => true;
    const request = { runRoot, graceMs: 0, dryRun: false, isGone: gone };
    return (await collectGarbage(openStore({ root, create: true })!, request)).length;
  },
};

/** Every rename is a step from one state to the next; so are deletions, but of objects, of which nobody knows any more. */
function dieBeforeChange(number: number): void {
  let left = number;
  const dying =
    <A extends unknown[], R>(change: (...args: A) => R) =>
    (...args: A): R => {
      if (!/\/objects|\/trash-/.test(String(args[0])) && left-- === 0) process.kill(process.pid, 'SIGKILL');
      return change(...args);
    };
  Object.assign(fs, { renameSync: dying(fs.renameSync), unlinkSync: dying(fs.unlinkSync) });
  syncBuiltinESMExports();
}

if (import.meta.main) {
  const [number, step, ...words] = process.argv.slice(2);
  dieBeforeChange(Number(number));
  await (STEPS[step as keyof typeof STEPS] as (...args: string[]) => Promise<unknown>)(...words);
}
