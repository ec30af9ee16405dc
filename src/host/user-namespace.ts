/**
 * A user namespace as a file descriptor, made only to carry an id map to mount_setattr(MOUNT_ATTR_IDMAP).
 *
 * A multi-threaded process cannot unshare(CLONE_NEWUSER), so a child does (util-linux's unshare), we write its maps
 * and open its namespace; the child is gone when the promise settles. user_namespaces(7), mount_setattr(2).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, writeFileSync } from 'node:fs';
import { OciError, toOciError } from '../oci/errors.ts';

/** `count` ids from `inside` on (for a mount: on disk) appear as those from `outside` on (for a mount: shown). */
export interface IdMapping {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** The same map for users and groups. The caller closes the descriptor. */
export async function openUserNamespace(mappings: readonly IdMapping[]): Promise<number> {
  // `cat` echoes our byte once unshare(1) has entered the namespace and executed it.
  const child = spawn('unshare', ['--user', '--', 'cat'], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: SYSTEM_PATH, LC_ALL: 'C' },
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaint.length < 500) complaint += text;
  });
  child.stdin.on('error', () => {}); // a child that died early is told by its exit
  const exited = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const failed = new Promise<never>((_, reject) => {
    child.on('error', reject);
    child.on('close', () =>
      reject(new OciError('OS_ERROR', `make a user namespace: ${complaint.trim() || 'unshare failed'}`)),
    );
  });
  failed.catch(() => {});
  try {
    child.stdin.write('\n');
    await Promise.race([once(child.stdout, 'data'), failed]);
    const map = mappings.map(({ inside, outside, count }) => `${inside} ${outside} ${count}\n`).join('');
    writeFileSync(`/proc/${child.pid}/uid_map`, map);
    writeFileSync(`/proc/${child.pid}/gid_map`, map);
    return openSync(`/proc/${child.pid}/ns/user`, 'r');
  } catch (error) {
    const cause = toOciError(error);
    throw new OciError(
      'OS_ERROR',
      cause.message.startsWith('make a') ? cause.message : `make a user namespace: ${cause.message}`,
      {
        hint: 'Install util-linux and see that /proc/sys/user/max_user_namespaces is not 0.',
        cause: error,
      },
    );
  } finally {
    child.stdin.destroy();
    child.kill('SIGKILL');
    if (child.pid !== undefined) await exited;
  }
}

const SYSTEM_PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
