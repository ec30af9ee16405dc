/**
 * Who uses an image at this moment: containers and mounts, by the records in the run root.
 *
 *   RUN_ROOT/containers/<unit>/image.json   UseRecord, written and removed with the container
 *   RUN_ROOT/mounts/<id>/mount.json         MountRecord, written and removed with the mount
 *
 * Invariant: a record is written under the shared lock of the store before the image is used, so whoever holds the
 * exclusive lock sees every user. A record of an earlier boot counts for nothing.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, listDirectory } from '../host/files.ts';
import type { Digest } from '../oci/digest.ts';
import { OciError, quote } from '../oci/errors.ts';

export interface ImageUser {
  readonly kind: 'container' | 'mount' | 'service';
  /** The unit's name, or the mount's directory. */
  readonly name: string;
}

export interface UseRecord {
  readonly digest: Digest;
  /** Other images that it mounts. */
  readonly also?: readonly Digest[];
  /** The store's root; a record without one counts for every store. */
  readonly root?: string;
  /** bootID() at the time of writing. */
  readonly boot?: string;
}

/**
 * The record of somebody who is about to use an image. One with layers in other stores counts for every store: who
 * looks after those does not know of ours.
 */
export function useRecord(
  [digest, ...also]: readonly [Digest, ...Digest[]],
  root: string | undefined,
): UseRecord {
  return {
    digest,
    ...(also.length > 0 ? { also } : {}),
    ...(root === undefined ? {} : { root }),
    boot: bootID(),
  };
}

/** Identifies this boot: the run root may outlive it where /run is not a tmpfs. */
export function bootID(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** The users of the image `digest` of the store at `root` (its real path). */
export function findImageUsers(runRoot: string, root: string, digest: Digest): ImageUser[] {
  const uses = ({ record }: { record: UseRecord }) =>
    (record.digest === digest || record.also?.includes(digest)) &&
    (record.root === undefined || record.root === root) &&
    (record.boot === undefined || record.boot === bootID());
  return [
    ...readRecords(join(runRoot, 'containers'), 'image.json')
      .filter(uses)
      .map(({ name }) => ({ kind: 'container' as const, name })),
    ...readRecords(join(runRoot, 'mounts'), 'mount.json')
      .filter(uses)
      .map(({ directory }) => ({ kind: 'mount' as const, name: join(directory, 'tree') })),
  ];
}

function readRecords(
  directory: string,
  file: string,
): { name: string; directory: string; record: UseRecord }[] {
  return listDirectory(directory).flatMap((name) => {
    const path = join(directory, name, file);
    try {
      return [
        {
          name,
          directory: join(directory, name),
          record: JSON.parse(readFileSync(path, 'utf8')) as UseRecord,
        },
      ];
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
      // Deleting layers below a container we cannot identify would be worse than refusing.
      throw new OciError(
        'IO_ERROR',
        `cannot tell which image ${quote(name)} uses: ${(error as Error).message}`,
        {
          hint: `Stop ${name}, then remove ${join(directory, name)}.`,
          cause: error,
        },
      );
    }
  });
}

const HOW_TO_STOP: Record<ImageUser['kind'], (name: string) => string> = {
  container: (name) => `Stop it first: systemctl stop ${name}`,
  mount: (name) => `Unmount it first: ocictl umount ${name}`,
  service: (name) => `Uninstall it first: ocictl uninstall ${name}`,
};

/** Throws BUSY naming the first user. */
export function refuseWhileUsed(users: readonly ImageUser[], name: string, verb = 'remove'): void {
  const [first] = users;
  if (first === undefined) return;
  const more = users.length === 1 ? '' : ` and ${users.length - 1} more`;
  throw new OciError(
    'BUSY',
    `refusing to ${verb} ${quote(name)}: ${first.kind} ${quote(first.name)}${more} uses it`,
    {
      hint: HOW_TO_STOP[first.kind](first.name),
      detail: users.map(({ kind, name: user }) => `${kind} ${quote(user)}`).join('\n'),
      containers: users.every(({ kind }) => kind === 'container') ? users.map((user) => user.name) : [],
    },
  );
}
