/**
 * Progress of a pull on stderr: on a terminal a bar for each layer at work and a line of the whole, redrawn at most
 * ten times a second and cleared at the end; elsewhere a line when a layer starts and one when it is done.
 *
 * Bytes are those of the blobs, counted as they arrive; layers that were here already are named and not counted.
 */
import type { PullEvent } from '../pull.ts';
import { humanBytes, type Output, shortDigest } from './output.ts';

export interface ProgressTerminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface Progress {
  onEvent(event: PullEvent): void;
  /** Clears the bars. */
  close(): void;
}

interface LayerState {
  readonly name: string;
  readonly total: number;
  bytes: number;
  state: 'waiting' | 'active' | 'done' | 'reused';
}

const REDRAW_MS = 100;
const BAR_MAX_CHARS = 30;

export function createProgress(
  output: Output,
  terminal: ProgressTerminal = process.stderr,
  now = () => performance.now(),
): Progress {
  let layers: LayerState[] = [];
  const bars =
    !output.quiet && !output.json && terminal.isTTY === true ? createBars(terminal, now) : undefined;
  const release = bars === undefined ? undefined : output.interceptNotes((line) => bars.printAbove(line));
  const tell = (message: string) => {
    if (bars === undefined) output.note(message);
    else if (!output.quiet) bars.printAbove(`${message}\n`);
  };

  return {
    onEvent(event) {
      switch (event.type) {
        case 'resolved':
          layers = event.layers.map(({ descriptor }) => ({
            name: shortDigest(descriptor.digest),
            total: descriptor.size,
            bytes: 0,
            state: 'waiting',
          }));
          break;
        case 'note':
          output.note(event.message);
          break;
        case 'layer-reused': {
          const layer = layers[event.index]!;
          layer.state = 'reused';
          tell(`layer ${layer.name}: already here`);
          break;
        }
        case 'layer-started': {
          const layer = layers[event.index]!;
          layer.state = 'active';
          layer.bytes = event.bytes;
          const resumed =
            event.bytes > 0 ? `, ${humanBytes(event.bytes)} of it here from an earlier pull` : '';
          if (bars === undefined) tell(`layer ${layer.name}: ${humanBytes(layer.total)}${resumed}`);
          break;
        }
        case 'layer-progress':
          layers[event.index]!.bytes = event.bytes;
          break;
        case 'layer-done': {
          const layer = layers[event.index]!;
          layer.state = 'done';
          tell(`layer ${layer.name}: done`);
          break;
        }
      }
      bars?.draw(layers);
    },
    close() {
      bars?.clear();
      release?.();
    },
  };
}

function createBars(terminal: ProgressTerminal, now: () => number) {
  let drawn = 0; // lines on the screen
  let last = Number.NEGATIVE_INFINITY;
  let current: readonly LayerState[] = [];

  function clear(): void {
    // up to the first of our lines, then erase to the end of the screen
    if (drawn > 0) terminal.write(`\x1b[${drawn}A\x1b[J`);
    drawn = 0;
  }

  function paint(): void {
    const lines = barLines(current, terminal.columns ?? 80);
    clear();
    terminal.write(lines.map((line) => `${line}\n`).join(''));
    drawn = lines.length;
    last = now();
  }

  return {
    clear,
    draw(layers: readonly LayerState[]): void {
      current = layers;
      if (now() - last >= REDRAW_MS) paint();
    },
    printAbove(line: string): void {
      clear();
      terminal.write(line);
      last = Number.NEGATIVE_INFINITY;
    },
  };
}

/** A bar for each active layer and the sum, none wider than `columns`. */
export function barLines(layers: readonly LayerState[], columns: number): string[] {
  const fetched = layers.filter(({ state }) => state !== 'reused');
  const active = layers.filter(({ state }) => state === 'active');
  if (fetched.length === 0) return [];
  const sum = (of: (layer: LayerState) => number) => fetched.reduce((total, layer) => total + of(layer), 0);
  const done = layers.filter(({ state }) => state === 'done' || state === 'reused').length;
  const whole = `${done} of ${layers.length} ${layers.length === 1 ? 'layer' : 'layers'}, ${humanBytes(sum(({ bytes }) => bytes))} of ${humanBytes(sum(({ total }) => total))}`;
  return [...active.map((layer) => barLine(layer, columns - 1)), whole].map((line) =>
    line.slice(0, columns - 1),
  );
}

function barLine({ name, bytes, total }: LayerState, width: number): string {
  const figures =
    bytes >= total ? `${humanBytes(total)}, unpacking` : `${humanBytes(bytes)} of ${humanBytes(total)}`;
  const room = Math.min(BAR_MAX_CHARS, width - name.length - figures.length - 4);
  if (room < 5) return `${name} ${figures}`;
  const filled = total === 0 ? room : Math.floor((room * Math.min(bytes, total)) / total);
  return `${name} [${'='.repeat(filled)}${' '.repeat(room - filled)}] ${figures}`;
}
