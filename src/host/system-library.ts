/**
 * Shared libraries of the system that are used where they are installed.
 *
 * Invariant: a library's calls go to its own functions (RTLD_DEEPBIND). node exports those of its own zlib and zstd, and
 * a library that mixes them with its own corrupts the memory.
 */
import { koffi } from './koffi.ts';

export interface SystemLibrary {
  func(name: string, result: string, parameters: string[]): (...values: unknown[]) => unknown;
  /** Where the bytes of a buffer lie. They stay there for as long as it lives. */
  addressOf(buffer: Buffer): bigint;
}

/** undefined when the library is not installed. */
export function loadSystemLibrary(name: string): SystemLibrary | undefined {
  let library: ReturnType<ReturnType<typeof koffi>['load']>;
  try {
    library = koffi().load(name, { deep: true });
  } catch {
    return undefined;
  }
  return {
    func: (name, result, parameters) => library.func(name, result, parameters),
    addressOf: (buffer) => koffi().address(buffer),
  };
}
