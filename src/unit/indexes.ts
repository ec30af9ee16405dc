/** Lists of CPUs and memory nodes, as cpuset(7) writes them. */
import { quote } from '../oci/errors.ts';
import { refusal } from './refuse.ts';

const INDEX_MAX = 8191; // the kernel's NR_CPUS where it is largest

/** `0-3,7`. */
export function parseIndexes(field: string, text: string): ReadonlySet<number> {
  const indexes = new Set<number>();
  for (const part of text.split(',')) {
    const [, from = '', to = from] = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part) ?? [];
    if (from === '' || Number(to) < Number(from) || Number(to) > INDEX_MAX)
      throw refusal(field, `${quote(text)} is not a list of numbers`, 'Write it as 0-3,7.');
    for (let index = Number(from); index <= Number(to); index++) indexes.add(index);
  }
  return indexes;
}
