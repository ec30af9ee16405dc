/**
 * Profiles in Docker's and podman's format: linux.seccomp of the runtime spec, and beside it what each entry is for
 * (`includes`, `excludes`: capabilities, architectures, kernels), `archMap`, and error numbers by name. The plain
 * form of the specification is a part of it, so one reader takes both.
 *
 * Strict: a field that is not known is refused, since what it was meant to forbid would be allowed.
 */
import { constants } from 'node:os';
import { OciError, quote } from '../oci/errors.ts';
import { parseJson } from '../oci/json.ts';
import type { Seccomp } from '../oci/runtime-spec.ts';
import { type Infer, integer, list, object, text } from '../oci/schema.ts';
import { badProfile } from './actions.ts';
import { architectureName } from './architectures.ts';

const CONDITIONS = object({}, { caps: list(text), arches: list(text), minKernel: text });

const PROFILE = object(
  { defaultAction: text },
  {
    defaultErrnoRet: integer,
    defaultErrno: text,
    architectures: list(text),
    archMap: list(object({ architecture: text }, { subArchitectures: list(text) })),
    flags: list(text),
    listenerPath: text,
    listenerMetadata: text,
    syscalls: list(
      object(
        { action: text },
        {
          names: list(text),
          name: text,
          errnoRet: integer,
          errno: text,
          args: list(object({ index: integer, op: text }, { value: integer, valueTwo: integer })),
          comment: text,
          includes: CONDITIONS,
          excludes: CONDITIONS,
        },
      ),
    ),
  },
);
export type SeccompProfile = Infer<typeof PROFILE>;

/** Docker's default has 14 KiB. */
export const PROFILE_MAX_BYTES = 1024 * 1024;

/** What decides which entries of a profile apply. */
export interface ProfileHost {
  /** In Go's word, as the profiles have it: `amd64`. */
  architecture: string;
  /** uname(2)'s release: `6.12.0-1-amd64`. */
  kernelRelease: string;
  /** Names of the payload's bounding set. */
  capabilities: readonly string[];
}

export function parseSeccompProfile(bytes: Uint8Array): SeccompProfile {
  const document = parseJson(bytes, PROFILE_MAX_BYTES, 'the seccomp profile', 'CONFIG');
  const unknown: string[] = [];
  let profile: SeccompProfile;
  try {
    profile = PROFILE.read(document, '', unknown);
  } catch (error) {
    if (error instanceof OciError && error.code === 'BAD_IMAGE') throw badProfile(error.message);
    throw error;
  }
  if (unknown.length > 0) throw badProfile(`it has an unknown field ${quote(unknown[0]!)}`);
  if ((profile.archMap?.length ?? 0) > 0 && (profile.architectures?.length ?? 0) > 0)
    throw badProfile('it has both architectures and archMap');
  for (const { name, names = [] } of profile.syscalls ?? [])
    if ((name === undefined) === (names.length === 0))
      throw badProfile('an entry of syscalls has not either name or names');
  return profile;
}

/** linux.seccomp for this container: the entries that apply, and the architectures of this machine. */
export function resolveProfile(profile: SeccompProfile, host: ProfileHost): Seccomp {
  const native = architectureName(host.architecture);
  const mapped = profile.archMap?.find(({ architecture }) => architecture === native);
  const architectures =
    mapped === undefined ? profile.architectures : [mapped.architecture, ...(mapped.subArchitectures ?? [])];
  const defaultErrnoRet = errorNumber(profile.defaultErrno, profile.defaultErrnoRet);
  return {
    defaultAction: profile.defaultAction,
    ...(defaultErrnoRet === undefined ? {} : { defaultErrnoRet }),
    ...(architectures === undefined ? {} : { architectures }),
    ...(profile.flags === undefined ? {} : { flags: profile.flags }),
    ...(profile.listenerPath ? { listenerPath: profile.listenerPath } : {}),
    syscalls: (profile.syscalls ?? [])
      .filter(({ includes = {}, excludes = {} }) => !isExcluded(excludes, host) && isIncluded(includes, host))
      .map((entry) => {
        const errnoRet = errorNumber(entry.errno, entry.errnoRet);
        return {
          names: entry.name === undefined ? (entry.names ?? []) : [entry.name],
          action: entry.action,
          ...(errnoRet === undefined ? {} : { errnoRet }),
          args: (entry.args ?? []).map((arg) => ({ ...arg, value: arg.value ?? 0 })),
        };
      }),
  };
}

type Conditions = Infer<typeof CONDITIONS>;

/** All capabilities, one of the architectures, this kernel or a later one. */
function isIncluded({ caps = [], arches = [], minKernel }: Conditions, host: ProfileHost): boolean {
  return (
    caps.every((name) => host.capabilities.includes(name)) &&
    (arches.length === 0 || arches.includes(host.architecture)) &&
    (!minKernel || isAtLeast(host.kernelRelease, minKernel))
  );
}

/** One of the capabilities, one of the architectures, or this kernel. */
function isExcluded({ caps = [], arches = [], minKernel }: Conditions, host: ProfileHost): boolean {
  return (
    caps.some((name) => host.capabilities.includes(name)) ||
    arches.includes(host.architecture) ||
    (!!minKernel && isAtLeast(host.kernelRelease, minKernel))
  );
}

function isAtLeast(release: string, minimum: string): boolean {
  const wanted = /^(\d{1,4})\.(\d{1,4})$/.exec(minimum);
  if (wanted === null) throw badProfile(`minKernel ${quote(minimum)} is not of the form 4.8`);
  const has = /^(\d+)\.(\d+)/.exec(release) ?? ['', '0', '0'];
  const order = (parts: readonly string[]) => Number(parts[1]) * 10_000 + Number(parts[2]);
  return order(has) >= order(wanted);
}

/** The name counts where both are given, as in podman. */
function errorNumber(name: string | undefined, number: number | undefined): number | undefined {
  if (!name) return number;
  const errno: Readonly<Record<string, number>> = constants.errno;
  if (!Object.hasOwn(errno, name)) throw badProfile(`${quote(name)} is not the name of an error`);
  return errno[name];
}
