/** The results of the benchmark of sharing: its table and its goals. */
import { type Goal, median } from './results.ts';
import type { Pull, SharingResult } from './sharing.ts';

export interface SharingReport {
  readonly date: string;
  readonly machine: readonly string[];
  readonly versions: Readonly<Record<string, string>>;
  /** Number of images. */
  readonly count: number;
  readonly results: readonly SharingResult[];
}

/** Of the pulls after the first. */
const next = ({ pulls }: SharingResult, figure: (pull: Pull) => number) => median(pulls.slice(1).map(figure));
const megabytes = (bytes: number) => bytes / 1e6;

export function sharingRows({ results, count }: SharingReport): string[][] {
  const header = [
    'image',
    'program',
    ...['disk, 1: MB', `disk, ${count}: MB`, 'each next: sent, MB', 'wall s', 'CPU s'],
    ...[`cached, ${count}: MB`, `PSS, ${count}: MB`],
  ];
  const rows = results.map((result) => [
    result.image,
    result.peer,
    megabytes(result.firstDiskBytes).toFixed(0),
    megabytes(result.diskBytes).toFixed(0),
    megabytes(next(result, ({ sentBytes }) => sentBytes)).toFixed(2),
    next(result, ({ wallSeconds }) => wallSeconds).toFixed(2),
    next(result, ({ cpuSeconds }) => cpuSeconds).toFixed(2),
    megabytes(result.cachedBytes).toFixed(1),
    megabytes(result.pssBytes).toFixed(1),
  ]);
  return [header, ...rows];
}

/** Those of the project, for images of zstd:chunked in the store of format composefs; none where they took no part. */
export function sharingGoals({ results, count }: SharingReport): Goal[] {
  const own = results.find(({ image, peer }) => image === 'chunked' && peer === 'oci-pull composefs');
  if (own === undefined) return [];
  return [
    { what: `disk of ${count} images, MB`, reached: megabytes(own.diskBytes), limit: 175 },
    {
      what: 'sent for each next image, MB',
      reached: megabytes(next(own, ({ sentBytes }) => sentBytes)),
      limit: 0.7,
    },
    { what: 'pull of each next image, s', reached: next(own, ({ wallSeconds }) => wallSeconds), limit: 1 },
    { what: `page cache of ${count} containers, MB`, reached: megabytes(own.cachedBytes), limit: 16 },
  ];
}
