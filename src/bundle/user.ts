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
  /** Names with commas between them. */
  members: string;
}

/** Throws BAD_IMAGE naming the user or group that does not exist or does not fit. */
export function resolveUser(userText: string, database: UserDatabase): ResolvedUser {
  const [userPart = '', groupPart, ...rest] = userText.split(':');
  if (rest.length > 0)
    throw new OciError('BAD_IMAGE', `user ${quote(userText)} is not USER[:GROUP]`, { hint: HINT.user });
  const user = findUser(userPart === '' ? '0' : userPart, database.passwd);
  const gid = groupPart ? findGroup(groupPart, database.group) : user.gid;
  // supplementary groups only where no group is named: so do docker and podman
  const additional = groupPart ? [] : groupsOf(user.name, database.group);
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
  return byOption('--group-add', () => findGroup(text, groupText));
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

type FoundUser = Omit<PasswdEntry, 'name'> & { name?: string };

function findUser(text: string, passwdText: string): FoundUser {
  const byName = parsePasswd(passwdText).find((entry) => entry.name === text);
  if (byName) return byName;
  if (!isDigits(text)) throw noSuch('user', text, passwdText);
  const uid = parseID(text, 'user');
  const byUid = parsePasswd(passwdText).find((entry) => entry.uid === uid);
  return byUid ?? { uid, gid: 0, home: uid === 0 ? '/root' : '/' };
}

function findGroup(text: string, groupText: string): number {
  const byName = parseGroup(groupText).find((entry) => entry.name === text);
  if (byName) return byName.gid;
  if (isDigits(text)) return parseID(text, 'group');
  throw noSuch('group', text, groupText);
}

function groupsOf(user: string | undefined, groupText: string): number[] {
  if (user === undefined) return [];
  return parseGroup(groupText)
    .filter(({ members }) => `,${members},`.includes(`,${user},`))
    .map(({ gid }) => gid)
    .toArray();
}

function parseID(text: string, what: keyof typeof HINT): number {
  const id = idOf(text);
  if (id === undefined)
    throw new OciError(
      'BAD_IMAGE',
      `${what} ${quote(text)} is not in the container's range 0..${CONTAINER_ID_MAX}`,
      { hint: HINT[what] },
    );
  return id;
}

const HINT = {
  user: 'Name a user that the image has with --user, or a number from 0 to 65535.',
  group: 'Name a group that the image has, or a number from 0 to 65535.',
};

/** A name may have a line all the same: one that does not count. */
function noSuch(what: keyof typeof HINT, name: string, text: string): OciError {
  const line = rows(text, 1).find(([first]) => first === name);
  const ids = what === 'user' ? line?.slice(2, 4) : line?.slice(2, 3);
  const why =
    ids === undefined
      ? 'does not exist in the image'
      : `has ${quote(ids.join(':'))} in the image, not numbers from 0 to ${CONTAINER_ID_MAX}`;
  return new OciError('BAD_IMAGE', `${what} ${quote(name)} ${why}`, { hint: HINT[what] });
}

/** Lines without ids, or whose ids do not fit, do not exist for us; what comes after the ids may be missing. */
function parsePasswd(text: string): IteratorObject<PasswdEntry> {
  return rows(text, 4).flatMap(([name = '', , uidText = '', gidText = '', , home]) => {
    const [uid, gid] = [idOf(uidText), idOf(gidText)];
    return uid === undefined || gid === undefined ? [] : [{ name, uid, gid, home: home || '/' }];
  });
}

function parseGroup(text: string): IteratorObject<GroupEntry> {
  return rows(text, 3).flatMap(([name = '', , gidText = '', members = '']) => {
    const gid = idOf(gidText);
    return gid === undefined ? [] : [{ name, gid, members }];
  });
}

const FIELDS_MAX = 7;

/** Blanks around a line are no part of it, as for libc. One by one: there may be millions. */
function* rows(text: string, columns: number): Generator<string[]> {
  for (let start = 0, end = 0; start < text.length; start = end + 1) {
    end = text.indexOf('\n', start);
    if (end < 0) end = text.length;
    if (end - start < 2 * columns - 1) continue;
    const fields = text.slice(start, end).trim().split(':', FIELDS_MAX);
    if (fields.length >= columns && fields[0] !== '' && !fields[0]!.startsWith('#')) yield fields;
  }
}

function isDigits(text: string): boolean {
  return /^\d+$/.test(text);
}

function idOf(text: string): number | undefined {
  return /^0*\d{1,5}$/.test(text) && Number(text) <= CONTAINER_ID_MAX ? Number(text) : undefined;
}
