/**
 * How the C library's allocator keeps what is freed. By default it gives large blocks back less and less readily, the
 * larger those are that it has seen, and a process with several threads and many buffers holds tens of megabytes that
 * nobody uses.
 */
import { loadSystemLibrary } from './system-library.ts';

// malloc.h of glibc
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;

/** Each time takes some 3 ms. The compilers of V8 leave megabytes behind in every thread while a program gets going. */
const TRIM_INTERVAL_MS = 200;

/**
 * Free memory goes back to the kernel soon, in all threads, what lies between used blocks until the returned function is
 * called. Where the C library is another one nothing changes.
 */
export function returnFreedMemory(): () => void {
  const libc = loadSystemLibrary('libc.so.6');
  if (libc === undefined) return () => {};
  const mallopt = libc.func('mallopt', 'int', ['int', 'int']);
  mallopt(M_TRIM_THRESHOLD, 128 * 1024);
  mallopt(M_MMAP_THRESHOLD, 64 * 1024);
  const trim = libc.func('malloc_trim', 'int', ['size_t']);
  const timer = setInterval(() => trim(0), TRIM_INTERVAL_MS).unref();
  return () => clearInterval(timer);
}
