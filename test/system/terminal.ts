/** A user at a terminal of the machine, who waits for what is shown before typing on. */
import { type Machine, stdoutOf } from '../machine/machine.ts';

const WORK = '/var/tmp/terminal';

/**
 * Runs `command` on a terminal of 40 rows and 100 columns, which script(1) makes, and then steps of shell in which
 * `send TEXT` types and `expect PATTERN` waits until the screen shows it after what was expected before. `job` has a
 * shell run something, and waits until that is the foreground job; it shows "again" when it goes on after a stop.
 */
export async function onTerminal(machine: Machine, command: string, steps: string): Promise<string> {
  const shown = await machine.script(
    `
rm -rf ${WORK}; mkdir ${WORK}; cd ${WORK}; mkfifo keys; : >screen; seen=0
cat >command <<'END'
tty >tty; stty rows 40 cols 100; stty -g >before
${command}
echo "status $?"; stty -g >after; cmp before after && echo restored
END
script -qefc 'TERM=xterm sh command' /dev/null <keys >screen 2>&1 &
exec 3>keys
send() { printf "$1" >&3; }
expect() {
  for i in $(seq 600); do
    at=$(tail -c +$((seen + 1)) screen | grep -aobP -m 1 -- "$1" | head -n 1 | cut -d: -f1 || true)
    if [ -n "$at" ]; then seen=$((seen + at + 1)); return; fi
    sleep 0.05
  done
  echo "not shown: $1"; cat -v screen; exit 1
}
job() { # as it is typed it does not show the words that it prints
  printf '%s\\r' "sh -c 'trap \\"echo aga\\\\in\\" CONT; echo runn\\\\ing; while :; do sleep 0.1; done'" >&3
  expect running
}
${steps}
expect restored
exec 3>&-
wait
cat screen`,
    { timeoutMs: 300_000 },
  );
  return stdoutOf(shown);
}
