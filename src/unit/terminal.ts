/**
 * The payload's terminal is the first of the container's own devpts. Its other end belongs to oci-run, which the
 * setup unit asks for it and waits for (src/host/terminal-request.ts).
 */
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import { mountDir, type UnitContext } from './context.ts';

/** Seconds; what oci-run has to do takes milliseconds. */
const ANSWER_MAX_SECONDS = 10;

/** Settings' and the payload's view of where its streams go. */
export function terminalStreams(context: Pick<UnitContext, 'bundleDir'>): UnitContext['stdio'] {
  const first = `${mountDir(context)}/dev/pts/0`;
  return { stdin: first, stdout: first, stderr: first };
}

/** Line of the setup once the devpts is there. Opened both ways a fifo never blocks, also when nobody listens. */
export function askForTerminal({ process }: RuntimeSpec): string {
  return process.terminal ? '\necho 1<>"$BUNDLE/terminal-asked"' : '';
}

/** Lines for the end of the setup; /dev/console is the terminal (config-linux.md, Default Devices). */
export function awaitTerminal({ process }: RuntimeSpec): string {
  if (!process.terminal) return '';
  return `
timeout ${ANSWER_MAX_SECONDS} sh -c 'read -r _ <"$0"' "$BUNDLE/terminal-open" && [ -c dev/pts/0 ] ||
  fail 'nobody has opened the terminal: oci-run has ended meanwhile'
: >dev/console
mount --bind dev/pts/0 dev/console`;
}
