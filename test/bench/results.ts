/** The results of a benchmark: medians, ratios, and the tables and the plot that show them. */
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import type { Sample } from './measure.ts';

export interface Result {
  readonly image: string;
  readonly peer: string;
  /** Into an empty store, one of each run. */
  readonly cold: readonly Sample[];
  /** With the image in the store. */
  readonly again: readonly Sample[];
}

export interface Report {
  readonly date: string;
  /** Lines that describe what it ran on. */
  readonly machine: readonly string[];
  readonly versions: Readonly<Record<string, string>>;
  readonly runs: number;
  /** Starting node and doing nothing. */
  readonly node: readonly Sample[];
  readonly results: readonly Result[];
}

/** What it runs on. */
export function describeMachine(): string[] {
  return [
    `${availableParallelism()} cores of ${cpus()[0]?.model ?? 'an unknown processor'}`,
    `${(totalmem() / 2 ** 30).toFixed(0)} GiB of memory`,
    `Linux ${release()}`,
    `load ${loadavg()[0]!.toFixed(1)} at the end`,
  ];
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median of each figure. */
export function summary(samples: readonly Sample[]): Sample {
  return {
    wallSeconds: median(samples.map((sample) => sample.wallSeconds)),
    cpuSeconds: median(samples.map((sample) => sample.cpuSeconds)),
    residentBytes: median(samples.map((sample) => sample.residentBytes)),
  };
}

const HEADER = ['image', 'program', 'wall s', 'CPU s', 'RSS MB', 'wall', 'CPU', 'again, wall s'];

/** Rows of the table: ratios are those of oci-pull to the program's figure. */
export function tableRows({ results }: Report): string[][] {
  const rows = results.map(({ image, peer, cold, again }) => {
    const own = results.find((other) => other.image === image && other.peer === 'oci-pull');
    const { wallSeconds, cpuSeconds, residentBytes } = summary(cold);
    const ratio = (ours: number | undefined, theirs: number) =>
      ours === undefined || peer === 'oci-pull' ? '' : `${(ours / theirs).toFixed(2)}×`;
    const ours = own === undefined ? undefined : summary(own.cold);
    return [
      image,
      peer,
      wallSeconds.toFixed(2),
      cpuSeconds.toFixed(2),
      (residentBytes / 1e6).toFixed(0),
      ratio(ours?.wallSeconds, wallSeconds),
      ratio(ours?.cpuSeconds, cpuSeconds),
      again.length === 0 ? '' : summary(again).wallSeconds.toFixed(2),
    ];
  });
  return [HEADER, ...rows];
}

export interface Goal {
  readonly what: string;
  readonly reached: number;
  readonly limit: number;
}

/** The goals of the project whose images and programs took part. */
export function goals({ results, node }: Report): Goal[] {
  const of = (image: string, peer: string) =>
    results.find((result) => result.image === image && result.peer === peer);
  const cold = (image: string, peer: string) => {
    const result = of(image, peer);
    return result === undefined ? undefined : summary(result.cold);
  };
  const found: [string, number | undefined, number | undefined, number][] = [
    [
      "app:gzip, wall ÷ importctl's",
      cold('app:gzip', 'oci-pull')?.wallSeconds,
      cold('app:gzip', 'importctl')?.wallSeconds,
      0.7,
    ],
    [
      "app:gzip, CPU ÷ podman's",
      cold('app:gzip', 'oci-pull')?.cpuSeconds,
      cold('app:gzip', 'podman')?.cpuSeconds,
      0.35,
    ],
    [
      "app:zstd, wall ÷ importctl's",
      cold('app:zstd', 'oci-pull')?.wallSeconds,
      cold('app:zstd', 'importctl')?.wallSeconds,
      0.8,
    ],
    ['app:gzip, RSS in MB', cold('app:gzip', 'oci-pull')?.residentBytes, 1e6, 150],
    ['app:zstd, RSS in MB', cold('app:zstd', 'oci-pull')?.residentBytes, 1e6, 150],
    [
      'a pull of what is here, wall ÷ that of starting node',
      of('app:gzip', 'oci-pull') && summary(of('app:gzip', 'oci-pull')!.again).wallSeconds,
      summary(node).wallSeconds,
      2,
    ],
  ];
  return found.flatMap(([what, value, base, limit]) =>
    value === undefined || base === undefined ? [] : [{ what, reached: value / base, limit }],
  );
}

/** Columns of text, numbers to the right. */
export function textTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
