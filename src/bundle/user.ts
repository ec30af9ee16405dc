/**
 * Who the payload is: `USER[:GROUP]` of the image or of --user, resolved in the texts of the image's own
 * /etc/passwd and /etc/group (passwd(5), group(5)), as runc and podman do.
 *
 * Invariant: every id that comes out is a whole number in 0..65535. Nothing wraps and nothing is guessed.
 */
import { OciError, quote } from '../oci/errors.ts';
import { CONTAINER_ID_MAX } from '../oci/limits.ts';

export interface ResolvedUser {
  uid: number;
  gid: number;
  additionalGids: number[];
  home: string;
}

export interface UserDatabase {
  passwd: string;
  group: string;
}

interface PasswdEntry {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

interface GroupEntry {
  name: string;
  gid: number;
  members: string[];
}

/** Throws BAD_IMAGE naming the user or group that does not exist or does not fit. */
export function resolveUser(userText: string, database: UserDatabase): ResolvedUser {
  const [userPart = '', groupPart, ...rest] = userText.split(':');
  if (rest.length > 0)
    throw new OciError('BAD_IMAGE', `user ${quote(userText)} is not USER[:GROUP]`, { hint: HINT });
  const passwd = parsePasswd(database.passwd);
  const groups = parseGroup(database.group);

  const user = findUser(userPart === '' ? '0' : userPart, passwd);
  const gid = groupPart === undefined || groupPart === '' ? user.gid : findGroup(groupPart, groups);
  // supplementary groups only where no group is named: so do docker and podman
  const additional =
    groupPart === undefined || groupPart === ''
      ? groups
          .filter((group) => user.name !== undefined && group.members.includes(user.name))
          .map((group) => group.gid)
      : [];
  return {
    uid: user.uid,
    gid,
    // with the first of them, so that a set-group-ID program takes no group away that files are closed to
    additionalGids: [...new Set([gid, ...additional])],
    home: user.home,
  };
}

/** Resolves --group-add. */
export function resolveGroup(text: string, groupText: string): number {
  return byOption('--group-add', () => findGroup(text, parseGroup(groupText)));
}

/** What an image has wrong is the user's fault where an option says it. */
export function byOption<T>(option: string, resolve: () => T): T {
  try {
    return resolve();
  } catch (error) {
    if (!(error instanceof OciError && error.code === 'BAD_IMAGE')) throw error;
    throw new OciError('USAGE', `${option}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

const HINT = 'Name a user that the image has with --user, or a number from 0 to 65535.';

function findUser(
  text: string,
  passwd: PasswdEntry[],
): { uid: number; gid: number; home: string; name?: string } {
  const byName = passwd.find((entry) => entry.name === text);
  if (byName) return { ...byName, home: byName.home === '' ? '/' : byName.home };
  if (!/^\d+$/.test(text))
    throw new OciError('BAD_IMAGE', `user ${quote(text)} does not exist in the image`, { hint: HINT });
  const uid = parseID(text, 'user');
  const byUid = passwd.find((entry) => entry.uid === uid);
  if (byUid) return { ...byUid, home: byUid.home === '' ? '/' : byUid.home };
  return { uid, gid: 0, home: uid === 0 ? '/root' : '/' };
}

function findGroup(text: string, groups: GroupEntry[]): number {
  const byName = groups.find((entry) => entry.name === text);
  if (byName) return byName.gid;
  if (/^\d+$/.test(text)) return parseID(text, 'group');
  throw new OciError('BAD_IMAGE', `group ${quote(text)} does not exist in the image`, {
    hint: 'Name a group that the image has, or a number from 0 to 65535.',
  });
}

function parseID(text: string, what: string): number {
  const id = /^\d{1,5}$/.test(text.replace(/^0+(?=\d)/, '')) ? Number(text) : Number.NaN;
  if (!(id <= CONTAINER_ID_MAX))
    throw new OciError(
      'BAD_IMAGE',
      `${what} ${quote(text)} is not in the container's range 0..${CONTAINER_ID_MAX}`,
      { hint: HINT },
    );
  return id;
}

/** Lines that are not a full entry, or whose ids do not fit, do not exist for us. */
function parsePasswd(text: string): PasswdEntry[] {
  return rows(text, 7).flatMap(([name, , uid, gid, , home]) =>
    isID(uid) && isID(gid) ? [{ name: name!, uid: Number(uid), gid: Number(gid), home: home! }] : [],
  );
}

function parseGroup(text: string): GroupEntry[] {
  return rows(text, 4).flatMap(([name, , gid, members]) =>
    isID(gid)
      ? [{ name: name!, gid: Number(gid), members: members!.split(',').filter((m) => m !== '') }]
      : [],
  );
}

function rows(text: string, columns: number): string[][] {
  return text
    .split('\n')
    .map((line) => line.replace(/\r$/, '').split(':'))
    .filter((fields) => fields.length >= columns && fields[0] !== '' && !fields[0]!.startsWith('#'));
}

function isID(text: string | undefined): boolean {
  return text !== undefined && /^\d{1,5}$/.test(text) && Number(text) <= CONTAINER_ID_MAX;
}
