/** What a unit said: the last lines of its journal, for error messages. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { escapeControl } from '../oci/errors.ts';

/** At most `lines` lines of one invocation of a unit, oldest first; empty where there is no journal. */
export async function lastMessages(unit: string, invocationID: string, lines: number): Promise<string[]> {
  try {
    await run('journalctl', ['--sync']);
    const { stdout } = await run('journalctl', [
      '--quiet',
      '--no-pager',
      '--output=cat',
      `--lines=${lines}`,
      `_SYSTEMD_UNIT=${unit}`,
      `_SYSTEMD_INVOCATION_ID=${invocationID}`,
    ]);
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => escapeControl(line).slice(0, 500));
  } catch {
    return []; // an explanation less is no reason to hide the error itself
  }
}

function run(file: string, args: string[]): Promise<{ stdout: string }> {
  return promisify(execFile)(file, args, { timeout: 5000, maxBuffer: 1024 * 1024 });
}
