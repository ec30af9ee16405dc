/**
 * The setup unit makes a container's devpts, systemd opens the payload's terminal there, and in between we must have
 * opened its other end. So the setup unit asks on one fifo and goes on when it is answered on another
 * (src/unit/terminal.ts).
 *
 * Both ends of both are open here as long as there is somebody to answer: nobody blocks, and when we are gone the
 * setup unit finds out.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

const TERMINAL_ASKED = 'terminal-asked';
const TERMINAL_OPEN = 'terminal-open';

/** Runs `start`; while it does, `open` is called when the setup unit whose bundle is `directory` asks for it. */
export async function answerTerminalRequest(
  directory: string,
  open: () => void,
  start: () => Promise<void>,
): Promise<void> {
  const paths = [`${directory}/${TERMINAL_ASKED}`, `${directory}/${TERMINAL_OPEN}`] as const;
  execFileSync('mkfifo', ['--mode=600', ...paths]);
  const [asked, answer] = paths.map((path) => openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  const requests = new Socket({ fd: asked!, readable: true, writable: false });
  try {
    const answered = once(requests, 'data').then(() => {
      open();
      writeSync(answer!, '\n');
    });
    await Promise.all([start(), answered]);
  } finally {
    requests.destroy();
    closeSync(answer!);
  }
}
