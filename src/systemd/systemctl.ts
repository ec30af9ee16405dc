/** systemctl(1), for what it does with unit files: enable, disable, daemon-reload, and jobs that the user could type. */
import { spawnSync } from 'node:child_process';
import { OciError } from '../oci/errors.ts';

/** Throws UNAVAILABLE with systemctl's own words. */
export function systemctl(...args: readonly string[]): void {
  const { status, signal, stderr, error } = spawnSync('systemctl', [...args], { encoding: 'utf8' });
  if (status === 0) return;
  const said = wordsOf(stderr ?? '') ?? error?.message ?? (signal === null ? `status ${status}` : signal);
  throw new OciError('UNAVAILABLE', `systemctl ${args.join(' ')}: ${said}`, {
    hint: `Look at it with ${['systemctl status', ...args.slice(1)].join(' ')}, or journalctl -xe.`,
    cause: error,
  });
}

/** The last line, or that about the job, without the advice that systemctl gives; undefined where it said nothing. */
export function wordsOf(stderr: string): string | undefined {
  const lines = stderr.split('\n').filter((line) => line !== '');
  const line = lines.find((each) => /^(Job for|A dependency job for) /.test(each)) ?? lines.at(-1);
  return line?.replace(/ See ['"].*$/, '').replace(/\.$/, '');
}

/** `name` if it runs, or the instances that run of the template `name`: their setup units are there as long as needed. */
export function runningUnits(name: string): string[] {
  const [base = '', instance] = name.split('@');
  const prefix = instance === undefined ? '' : `${base}-setup@`;
  const pattern = instance === undefined ? `${name}-setup.service` : `${prefix}*.service`;
  const list = ['list-units', '--plain', '--no-legend', '--full', pattern];
  const { stdout } = spawnSync('systemctl', list, { encoding: 'utf8' });
  return (stdout ?? '')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([unit = '', , state = '']) => unit !== '' && !['inactive', 'failed'].includes(state))
    .map(([unit = '']) =>
      instance === undefined ? name : `${name}${unit.slice(prefix.length).replace(/\.service$/, '')}`,
    );
}

/** ActiveState of each; none where systemd does not answer. */
export function unitStates(units: readonly string[]): string[] {
  if (units.length === 0) return [];
  const show = ['show', '--property=ActiveState', '--value', '--', ...units];
  const { status, stdout } = spawnSync('systemctl', show, { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n').filter((line) => line !== '') : [];
}

/** Of an ActiveState: nothing of the unit runs. A unit that systemd does not know is inactive. */
export function hasEnded(state: string): boolean {
  return state === 'inactive' || state === 'failed';
}

/** Whether nothing of any of the units runs; false also where systemd does not answer. */
export function haveEnded(units: readonly string[]): boolean {
  const states = unitStates(units);
  return states.length === units.length && states.every(hasEnded);
}

/** Forgets failures and the count of starts. A unit that is not loaded has none. */
export function resetFailed(units: readonly string[]): void {
  for (const unit of units) spawnSync('systemctl', ['reset-failed', unit], { stdio: 'ignore' });
}

/** A line in the journal about a unit, which journalctl -u shows among those of the unit (systemd.journal-fields(7)). */
export function logAbout(unit: string, message: string, priority: 'warning' | 'info'): void {
  const fields = [
    `MESSAGE=${message.replaceAll('\n', ' ')}`,
    `PRIORITY=${priority === 'info' ? 6 : 4}`,
    'SYSLOG_IDENTIFIER=ocictl',
    `OBJECT_SYSTEMD_UNIT=${unit}`,
    `OCI_UNIT=${unit}`,
  ];
  // where there is no logger(1), the caller's own output has to do
  spawnSync('logger', ['--journald'], {
    input: `${fields.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
}
