/** What people see of the unit: description, journal fields, slice. */
import type { UnitContext } from './context.ts';
import { logExtraFields, type Setting, string } from './setting.ts';

export function identitySettings(context: UnitContext): Setting[] {
  return [
    string('Description', `OCI container ${context.unit} (${context.imageName})`, 'Unit'),
    string('Slice', context.slice),
    string('SyslogIdentifier', context.unit),
    logExtraFields(journalFields(context)),
  ];
}

/** What every journal line of the container says of it. */
export function journalFields(context: UnitContext): string[] {
  return [
    `OCI_IMAGE=${context.imageName}`,
    `OCI_MANIFEST_DIGEST=${context.manifestDigest}`,
    `OCI_UNIT=${context.unit}.service`,
  ];
}

export function setupIdentitySettings(context: UnitContext): Setting[] {
  return [
    string('Description', `Namespaces and mounts of OCI container ${context.unit}`, 'Unit'),
    string('Slice', context.slice),
  ];
}
