/** Options of the form NAME=VALUE: --label, --sysctl, --ulimit, --add-host, --userns, --security-opt. */
import { isAddress } from '../oci/address.ts';
import { OUR_ANNOTATIONS } from '../oci/annotations.ts';
import { OciError, quote } from '../oci/errors.ts';
import type { IDMapping, Process } from '../oci/runtime-spec.ts';

type Rlimit = NonNullable<Process['rlimits']>[number];

export function parseLabel(text: string): [string, string] {
  const at = text.indexOf('=');
  if (text === '' || at === 0)
    throw new OciError('USAGE', `--label: ${quote(text)} has no name`, {
      hint: 'Write it as --label NAME=VALUE.',
    });
  if (text.startsWith(OUR_ANNOTATIONS))
    throw new OciError('USAGE', `--label: ${quote(text)} is for options to say`, {
      hint: `Choose a name that does not begin with ${OUR_ANNOTATIONS}`,
    });
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

export function parseSysctl(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new OciError('USAGE', `--sysctl: ${quote(text)} is not NAME=VALUE`, {
    hint: 'Write it as --sysctl net.core.somaxconn=1024.',
  });
}

/** `nofile=1024:4096`, `nproc=100`, `core=-1`. */
export function parseUlimit(text: string): Rlimit {
  const [, name = '', soft = '', hard = soft] =
    /^([a-z]{2,10})=(-1|unlimited|\d{1,15})(?::(-1|unlimited|\d{1,15}))?$/.exec(text) ?? [];
  const value = (word: string) => (/^\d/.test(word) ? Number(word) : RLIM_INFINITY);
  const usage = (why: string) =>
    new OciError('USAGE', `--ulimit: ${quote(text)} ${why}`, {
      hint: 'Write it as --ulimit nofile=1024:4096.',
    });
  if (name === '') throw usage('is not NAME=SOFT[:HARD]');
  if (value(soft) > value(hard)) throw usage('has its soft limit above the hard one');
  return { type: `RLIMIT_${name.toUpperCase()}`, soft: value(soft), hard: value(hard) };
}

const RLIM_INFINITY = 2 ** 64;

/** `db:10.0.0.5` or `db:host-gateway` → a line of /etc/hosts. */
export function parseAddHost(text: string): string {
  const at = text.indexOf(':');
  const names = text.slice(0, Math.max(at, 0)).split(';');
  const address = text.slice(at + 1).replace(/^\[(.*)\]$/, '$1');
  if (
    names.some((name) => !/^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,253})$/.test(name)) ||
    !(isAddress(address) || address === 'host-gateway')
  )
    throw new OciError('USAGE', `--add-host: ${quote(text)} is not NAME:ADDRESS`, {
      hint: 'Write it as --add-host db:10.0.0.5.',
    });
  return `${address} ${names.join(' ')}`;
}

export function parseNameserver(text: string): string {
  if (isAddress(text)) return text;
  throw new OciError('USAGE', `--dns: ${quote(text)} is not an address`, {
    hint: 'Write it as --dns 10.0.0.1.',
  });
}

/** `auto` → nothing: a fresh range at every start. */
export function parseUserns(text: string): { range?: IDMapping; hostUsers?: true } {
  if (text === 'auto') return {};
  if (text === 'host') return { hostUsers: true };
  const [, base = '', size = ''] = /^(\d{1,10}):(\d{1,5})$/.exec(text) ?? [];
  if (base === '')
    throw new OciError('USAGE', `--userns: ${quote(text)} is none of auto, host and BASE:SIZE`, {
      hint: 'Write it as --userns 1048576:65536.',
    });
  return { range: { containerID: 0, hostID: Number(base), size: Number(size) } };
}

export interface SecurityOptions {
  noNewPrivileges: boolean;
  apparmorProfile?: string;
  /** As --seccomp takes it. */
  seccomp?: string;
  /** Paths that the container cannot reach, besides the default ones. */
  masked: string[];
  /** Patterns of default masked and read-only paths that stay as they are; `ALL` for all. */
  unmasked: string[];
}

/** `no-new-privileges`, and as NAME=VALUE apparmor, seccomp, mask and unmask, with `=` or `:`. */
export function parseSecurityOptions(texts: readonly string[]): SecurityOptions {
  const options: SecurityOptions = { noNewPrivileges: false, masked: [], unmasked: [] };
  for (const text of texts) {
    const [, name = '', value = ''] = /^([a-z-]+)(?:[=:](.*))?$/s.exec(text) ?? [];
    if (name === 'no-new-privileges' && ['', 'true', 'false'].includes(value))
      options.noNewPrivileges = value !== 'false';
    else if (name === 'apparmor' && value !== '' && value !== 'unconfined') options.apparmorProfile = value;
    else if (name === 'seccomp' && value !== '') options.seccomp = value;
    else if (name === 'mask') options.masked.push(...parsePaths(text, value));
    else if (name === 'unmask')
      options.unmasked.push(...(/^all$/i.test(value) ? ['ALL'] : parsePaths(text, value)));
    // nothing is labelled, and without a profile there is none
    else if (!/^(label[=:]disable|apparmor[=:]unconfined)$/.test(text))
      throw new OciError('UNSUPPORTED', `--security-opt: ${quote(text)} cannot be honoured`, {
        hint: 'Use no-new-privileges, apparmor=PROFILE, seccomp=PROFILE, mask=PATH or unmask=PATH.',
      });
  }
  return options;
}

/** `/proc/a:/proc/b`. */
function parsePaths(text: string, value: string): string[] {
  const paths = value.split(':');
  if (paths.every((path) => /^(\/[^/\x00-\x1f\x7f]+)+$/.test(path) && !path.split('/').includes('..')))
    return paths;
  throw new OciError('USAGE', `--security-opt: ${quote(text)} names no absolute path`, {
    hint: 'Write it as mask=/proc/cpuinfo:/proc/meminfo, unmask=/proc/kcore, or unmask=ALL.',
  });
}

/** The default paths but those that are unmasked: by their name, `/proc/*`, or ALL. */
export function stillMasked(paths: readonly string[], { unmasked }: SecurityOptions): string[] {
  const patterns = unmasked.map((pattern) =>
    pattern === 'ALL' ? /^/ : new RegExp(`^${pattern.replace(/[^\w*/]/g, '\\$&').replaceAll('*', '[^/]*')}$`),
  );
  return paths.filter((path) => !patterns.some((pattern) => pattern.test(path)));
}

/** podman-run(1): how often a payload that ended is started again. */
export function parseRestart(text: string): string {
  if (/^(no|always|unless-stopped|on-failure(:\d{1,6})?)$/.test(text)) return text;
  throw new OciError('USAGE', `--restart: ${quote(text)} is no policy`, {
    hint: 'Use no, on-failure, on-failure:N, always or unless-stopped.',
  });
}

/** An identifier of journal lines: one line, nothing that cannot be shown. */
export function parseLogTag(text: string): string {
  if (text !== '' && text.length <= 255 && !/[\x00-\x1f\x7f]|^\s|\s$|\\$/.test(text)) return text;
  throw new OciError('USAGE', `--log-tag: ${quote(text)} is no identifier`, {
    hint: 'Use visible characters, at most 255.',
  });
}
