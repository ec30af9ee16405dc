/**
 * koffi, which calls functions of C libraries: its binary itself. The JavaScript around that adds old names and looks
 * for the binary of this machine, which takes ten times as long as all we do with it.
 */
import { createRequire } from 'node:module';

type Koffi = typeof import('koffi');
let loaded: Koffi | undefined;

export function koffi(): Koffi {
  loaded ??= load();
  return loaded;
}

function load(): Koffi {
  const require = createRequire(import.meta.url);
  try {
    return require(`@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`) as Koffi;
  } catch {
    return require('koffi') as Koffi; // another C library, another machine: it says what is wrong
  }
}
