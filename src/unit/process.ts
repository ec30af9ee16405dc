/** The process of the runtime spec: command, environment, directory, streams. */
import { OciError, quote } from '../oci/errors.ts';
import type { Linux, Process, RuntimeSpec } from '../oci/runtime-spec.ts';
import { RANGE_SIZE } from '../uid/range.ts';
import type { Features, UnitContext } from './context.ts';
import { hasHostUsers } from './host-users.ts';
import { fixedRange, planNamespaces } from './namespaces.ts';
import { refusal } from './refuse.ts';
import { schedulingSettings } from './scheduling.ts';
import type { SeccompPlan } from './seccomp.ts';
import { boolean, environment, execVerbatim, list, mode, type Setting, string, stringAs } from './setting.ts';
import { shimArgv, unitEnvironment } from './shim.ts';

export function processSettings(
  spec: RuntimeSpec,
  seccomp: SeccompPlan | undefined,
  context: UnitContext,
): Setting[] {
  const { process, linux } = spec;
  checkProcess(process, fixedRange(linux)?.size ?? RANGE_SIZE);
  return [
    execVerbatim(
      'ExecStart',
      shimArgv(process, {
        hostUsers: hasHostUsers(spec),
        uts: planNamespaces(linux).uts === 'own',
        seccomp: seccomp?.by === 'setpriv',
        init: context.init,
        cwd: context.cwdBy === 'shim',
        sockets: context.sockets !== undefined && planNamespaces(linux).pid === 'own',
      }),
    ),
    ...(seccomp?.settings ?? []),
    environment(unitEnvironment(process)),
    // what systemd adds of its own is not the image's
    boolean('SetLoginEnvironment', false),
    list('UnsetEnvironment', systemdVariables(process)),
    ...(context.cwdBy === 'unit' ? [string('WorkingDirectory', process.cwd)] : []),
    mode('UMask', process.user.umask ?? 0o022),
    ...schedulingSettings(process),
    ...personalitySettings(linux.personality, context.features),
    ...stdioSettings(context),
  ];
}

/** MAX_ARG_STRLEN, less the NUL: execve(2). */
const STRING_MAX_BYTES = 131_071;

/** All of them, each with its NUL and a pointer, take a quarter of the stack at most, within these bounds: execve(2). */
const POINTER_BYTES = 8;
const STACK_BYTES = 8 * 1024 * 1024;
const STRINGS_MIN_BYTES = 128 * 1024;
const STRINGS_MAX_BYTES = 6 * 1024 * 1024;
/** The shim's own words, and variables of systemd's. */
const SHIM_BYTES = 16 * 1024;

/** What no process can be given, whoever asks for it. */
function checkProcess({ args, env, cwd, user, rlimits = [] }: Process, rangeSize: number): void {
  for (const text of [...args, ...env])
    if (Buffer.byteLength(text) > STRING_MAX_BYTES)
      throw new OciError(
        'COMMAND_CANNOT_RUN',
        `${quote(`${text.slice(0, 20)}…`)} has ${Buffer.byteLength(text)} bytes: the kernel takes arguments and variables of at most ${STRING_MAX_BYTES}`,
        { hint: 'Pass it in a file.' },
      );
  const bytes = [...args, ...env].reduce((sum, text) => sum + Buffer.byteLength(text) + 1 + POINTER_BYTES, 0);
  const stack = rlimits.find(({ type }) => type === 'RLIMIT_STACK')?.soft ?? STACK_BYTES;
  const bytesMax = Math.min(Math.max(stack / 4, STRINGS_MIN_BYTES), STRINGS_MAX_BYTES);
  if (bytes > bytesMax - SHIM_BYTES)
    throw new OciError(
      'COMMAND_CANNOT_RUN',
      `arguments and variables have ${bytes} bytes in all: the kernel takes ${bytesMax}`,
      { hint: 'Pass them in a file, or raise the limit: --ulimit stack=16777216.' },
    );
  for (const arg of args)
    if (arg.includes('\0'))
      throw new OciError('BAD_IMAGE', `argument ${quote(arg)} holds a NUL byte`, {
        hint: 'Remove it: no program can be given such an argument.',
      });
  for (const entry of env)
    if (entry.includes('\0') || entry.indexOf('=') < 1)
      throw new OciError('BAD_IMAGE', `environment variable ${quote(entry)} is not NAME=VALUE`, {
        hint: 'Correct or remove it.',
      });
  if (!cwd.startsWith('/') || cwd.split('/').includes('..'))
    throw new OciError('BAD_IMAGE', `working directory ${quote(cwd)} is not an absolute path`, {
      hint: 'Write it as /DIR, without ..',
    });
  for (const id of [user.uid, user.gid, ...(user.additionalGids ?? [])])
    if (id < 0 || id >= rangeSize)
      throw new OciError('BAD_IMAGE', `id ${id} is not in the container's range of ${rangeSize}`, {
        hint: 'Name another user, or give the container a larger range.',
      });
}

const SYSTEMD_VARIABLES = [
  'LANG',
  'LANGUAGE',
  'USER',
  'LOGNAME',
  'SHELL',
  'INVOCATION_ID',
  'SYSTEMD_EXEC_PID',
  'JOURNAL_STREAM',
  'MEMORY_PRESSURE_WATCH',
  'MEMORY_PRESSURE_WRITE',
  'CPU_PRESSURE_WATCH',
  'CPU_PRESSURE_WRITE',
  'IO_PRESSURE_WATCH',
  'IO_PRESSURE_WRITE',
];

/** UnsetEnvironment= also removes what Environment= sets: names that the container sets itself stay. */
function systemdVariables(process: Process): string[] {
  const own = new Set(process.env.map((entry) => entry.slice(0, entry.indexOf('='))));
  return SYSTEMD_VARIABLES.filter((name) => !own.has(name));
}

function stdioSettings({ stdio }: UnitContext): Setting[] {
  if (stdio === undefined) return [];
  return [
    stringAs('StandardInputFile', 'StandardInput', stdio.stdin),
    stringAs('StandardOutputFile', 'StandardOutput', stdio.stdout),
    stringAs('StandardErrorFile', 'StandardError', stdio.stderr),
  ].map((setting) => ({ ...setting, lines: setting.lines.map((line) => line.replace('=', '=file:')) }));
}

/** Personality= by systemd's name of the 32-bit half of this architecture (process.arch). */
const PERSONALITY_32: Record<string, string> = { x64: 'x86', arm64: 'arm', s390x: 's390' };

function personalitySettings(personality: Linux['personality'], features: Features): Setting[] {
  if (personality === undefined) return [];
  if ((personality.flags ?? []).length > 0)
    throw refusal('linux.personality.flags', 'systemd sets the domain only', 'Leave the flags out.');
  if (personality.domain === 'LINUX') return [];
  const name = PERSONALITY_32[features.architecture];
  if (name === undefined)
    throw refusal('linux.personality.domain', 'this machine has no 32-bit half', 'Use LINUX.');
  return [string('Personality', name)];
}
