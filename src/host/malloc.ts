/**
 * How the C library's allocator keeps what is freed. By default it gives large blocks back less and less readily, the
 * larger those are that it has seen, and a process with several threads and many buffers holds tens of megabytes that
 * nobody uses.
 */
import { loadSystemLibrary } from './system-library.ts';

// malloc.h of glibc
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;

/** Free memory goes back to the kernel soon, in all threads. Where the C library is another one nothing changes. */
export function returnFreedMemory(): void {
  const mallopt = loadSystemLibrary('libc.so.6')?.func('mallopt', 'int', ['int', 'int']);
  mallopt?.(M_TRIM_THRESHOLD, 128 * 1024);
  mallopt?.(M_MMAP_THRESHOLD, 64 * 1024);
}
