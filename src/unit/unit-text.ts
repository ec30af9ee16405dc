/** Settings as the text of a unit file: what --dry-run shows. */
import type { ContainerUnits } from './container-units.ts';
import type { Setting } from './setting.ts';

/** Sections in systemd's usual order, settings in the order given. */
export function unitText(settings: readonly Setting[]): string {
  return (['Unit', 'Service'] as const)
    .map((section) => {
      const lines = settings
        .filter((setting) => setting.section === section)
        .flatMap((setting) => setting.lines);
      return `[${section}]\n${lines.join('\n')}\n`;
    })
    .join('\n');
}

/** Both units, each under a comment with its name, then the scripts. */
export function containerUnitsText(units: ContainerUnits): string {
  return [
    `# ${units.setupName}\n${unitText(units.setup)}`,
    `# ${units.payloadName}\n${unitText(units.payload)}`,
  ].join('\n');
}
