/** Signal names and numbers as image-spec's StopSignal and docker(1) write them: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. */
import { constants } from 'node:os';
import { OciError, quote } from './errors.ts';

const RTMIN = 34;
const RTMAX = 64;

export interface Signal {
  number: number;
  /** As systemd writes it: `SIGTERM`, `SIGRTMIN+3`. */
  name: string;
}

/** Throws BAD_IMAGE for anything that is no signal of Linux. */
export function parseSignal(text: string): Signal {
  const name = text.trim().toUpperCase();
  const byName = constants.signals[(name.startsWith('SIG') ? name : `SIG${name}`) as NodeJS.Signals];
  if (byName !== undefined) return { number: byName, name: signalName(byName) };
  const realtime = /^(?:SIG)?RT(MIN|MAX)(?:([+-])(\d{1,2}))?$/.exec(name);
  let number = Number.NaN;
  if (realtime) {
    const base = realtime[1] === 'MIN' ? RTMIN : RTMAX;
    number = base + (realtime[2] === '-' ? -1 : 1) * Number(realtime[3] ?? 0);
    if (number < RTMIN) number = Number.NaN;
  } else if (/^\d{1,2}$/.test(name)) number = Number(name);
  if (!(number >= 1 && number <= RTMAX))
    throw new OciError('BAD_IMAGE', `${quote(text)} is not a signal`, {
      hint: 'Name another one with --stop-signal SIGTERM.',
    });
  return { number, name: signalName(number) };
}

/** `SIGTERM` for 15, `SIGRTMIN+n` for real-time signals, the number for the two that libc keeps for itself. */
function signalName(number: number): string {
  if (number >= RTMIN) return number === RTMIN ? 'SIGRTMIN' : `SIGRTMIN+${number - RTMIN}`;
  const names = Object.entries(constants.signals)
    .filter(([, value]) => value === number)
    .map(([name]) => name);
  return names.find((name) => !['SIGIOT', 'SIGPOLL', 'SIGUNUSED', 'SIGCLD'].includes(name)) ?? String(number);
}
