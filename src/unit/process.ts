/** The process of the runtime spec: command, environment, directory, streams. */
import { OciError, quote } from '../oci/errors.ts';
import type { Process } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { boolean, environment, execVerbatim, list, mode, type Setting, string, stringAs } from './setting.ts';
import { shimArgv, unitEnvironment } from './shim.ts';

export function processSettings(process: Process, context: UnitContext): Setting[] {
  for (const arg of process.args)
    if (arg.includes('\0'))
      throw new OciError('BAD_IMAGE', `argument ${quote(arg)} holds a NUL byte`, {
        hint: 'Remove it: no program can be given such an argument.',
      });
  return [
    execVerbatim('ExecStart', shimArgv(process)),
    environment(unitEnvironment(process)),
    // what systemd adds of its own is not the image's
    boolean('SetLoginEnvironment', false),
    list('UnsetEnvironment', systemdVariables(process)),
    string('WorkingDirectory', process.cwd),
    mode('UMask', process.user.umask ?? 0o022),
    ...stdioSettings(context),
  ];
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
