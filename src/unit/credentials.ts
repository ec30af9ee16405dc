/**
 * Credentials: systemd loads them for the setup unit, decrypted where they are encrypted, and the setup gives the
 * container copies in memory that is never swapped, which the container's user may read. systemd would give those
 * of the payload's unit to its User=, the container's root.
 *
 * They are read when the setup starts: a payload that is started again by Restart= has the same.
 */
import type { UnitContext } from './context.ts';
import type { BindMount } from './mounts.ts';
import { pairs, type Setting, setCredentials } from './setting.ts';
import { shellWord } from './shell.ts';

/** Of the setup unit. */
export function credentialSettings({ credentials = [] }: UnitContext): Setting[] {
  const loaded = (wanted: boolean) =>
    credentials.flatMap((each) =>
      'path' in each && (each.encrypted ?? false) === wanted ? [[each.name, each.path] as const] : [],
    );
  const set = credentials.flatMap((each) => ('value' in each ? [[each.name, each.value] as const] : []));
  return [
    ...(loaded(false).length > 0 ? [pairs('LoadCredential', loaded(false), ':')] : []),
    ...(loaded(true).length > 0 ? [pairs('LoadCredentialEncrypted', loaded(true), ':')] : []),
    ...(set.length > 0 ? [setCredentials(set)] : []),
  ];
}

export function credentialLines({ name, owner }: BindMount, { credentials = [] }: UnitContext): string {
  const names = credentials.map((each) => shellWord(each.name)).join(' ');
  return `mkdir ${name}
mount -t ramfs -o mode=500,nosuid,nodev,noexec ramfs ${name}
for credential in ${names}; do
  [ -f "$CREDENTIALS_DIRECTORY/$credential" ] || fail "this host has no credential '$credential'"
  cat "$CREDENTIALS_DIRECTORY/$credential" >"${name}/$credential"
  chmod 400 "${name}/$credential"
done
chown -R $((B + ${owner.uid})):$((B + ${owner.gid})) ${name}
mount -o remount,bind,ro,nosuid,nodev,noexec ${name}`;
}
