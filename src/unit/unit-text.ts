/** Settings as the text of unit files: what --dry-run shows and `ocictl install` writes. */
import type { ContainerUnits } from './container-units.ts';
import type { Setting } from './setting.ts';

const SECTIONS = ['Unit', 'Service', 'Socket', 'Timer', 'Install'] as const;

/** Sections in systemd's usual order, settings in the order given. */
export function unitText(settings: readonly Setting[]): string {
  return SECTIONS.map((section) => ({
    section,
    lines: settings.filter((setting) => setting.section === section).flatMap((setting) => setting.lines),
  }))
    .filter(({ lines }) => lines.length > 0)
    .map(({ section, lines }) => `[${section}]\n${lines.join('\n')}\n`)
    .join('\n');
}

/** All units of a container, each under a comment with its name, the payload last. */
export function containerUnitsText(units: ContainerUnits): string {
  const socket = units.socket === undefined ? [] : [units.socket];
  return [...units.helpers, ...socket, units.payload]
    .map(({ name, settings }) => `# ${name}\n${unitText(settings)}`)
    .join('\n');
}
