/** What differs between two versions of an installed service: the image, and the text of the unit files. */
import { join } from 'node:path';
import { listDirectory, readTextIfThere } from './host/files.ts';
import type { Digest } from './oci/digest.ts';
import { OciError, quote } from './oci/errors.ts';
import type { Service, ServiceVersion } from './services.ts';

export interface ServiceDiff {
  readonly service: string;
  readonly from: VersionFacts;
  readonly to: VersionFacts;
  /** Those with differences; `-` a line that only `from` has, `+` one that only `to` has. */
  readonly units: readonly { readonly name: string; readonly lines: readonly string[] }[];
}

interface VersionFacts {
  readonly version: number;
  readonly image: string;
  readonly digest: Digest;
}

/** Of the two newest versions. Throws INPUT_NOT_FOUND where there is one only. */
export function diffService(service: Service): ServiceDiff {
  const [from, to] = service.versions.slice(-2);
  if (from === undefined || to === undefined)
    throw new OciError('INPUT_NOT_FOUND', `service ${quote(service.name)} has one version only`, {
      hint: `See it with systemctl cat ${service.name}.`,
    });
  const before = unitTexts(service, from);
  const after = unitTexts(service, to);
  return {
    service: service.name,
    from: facts(from),
    to: facts(to),
    units: [...new Set([...before.keys(), ...after.keys()])]
      .map((name) => ({ name, lines: diffLines(before.get(name) ?? [], after.get(name) ?? []) }))
      .filter(({ lines }) => lines.length > 0),
  };
}

function facts({ number, record }: ServiceVersion): VersionFacts {
  return { version: number, image: record.image, digest: record.digest };
}

function unitTexts({ directory }: Service, { number }: ServiceVersion): Map<string, string[]> {
  const units = join(directory, String(number), 'units');
  return new Map(
    listDirectory(units)
      .sort()
      .map((name) => [name, (readTextIfThere(join(units, name)) ?? '').split('\n')]),
  );
}

/** An image may have a hundred thousand variables, and so its unit as many lines. */
const COMPARED_MAX = 4_000_000;

/** By the longest common subsequence; between the first and the last difference, where that is too far, all is different. */
export function diffLines(before: readonly string[], after: readonly string[]): string[] {
  const shortest = Math.min(before.length, after.length);
  let start = 0;
  while (start < shortest && before[start] === after[start]) start++;
  let end = 0;
  while (end < shortest - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const [old, fresh] = [before, after].map((lines) => lines.slice(start, lines.length - end)) as [
    string[],
    string[],
  ];
  if (old.length * fresh.length <= COMPARED_MAX) return diffDifferent(old, fresh);
  return [...old.map((line) => `-${line}`), ...fresh.map((line) => `+${line}`)];
}

function diffDifferent(before: readonly string[], after: readonly string[]): string[] {
  const width = after.length + 1;
  const common = new Uint32Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--)
    for (let j = after.length - 1; j >= 0; j--)
      common[i * width + j] =
        before[i] === after[j]
          ? common[(i + 1) * width + j + 1]! + 1
          : Math.max(common[(i + 1) * width + j]!, common[i * width + j + 1]!);
  const lines: string[] = [];
  for (let i = 0, j = 0; i < before.length || j < after.length; )
    if (i < before.length && j < after.length && before[i] === after[j]) {
      i++;
      j++;
    } else if (
      j >= after.length ||
      (i < before.length && common[(i + 1) * width + j]! >= common[i * width + j + 1]!)
    )
      lines.push(`-${before[i++]}`);
    else lines.push(`+${after[j++]}`);
  return lines;
}
