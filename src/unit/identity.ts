/** What people see of the unit: description, journal fields, slice. */
import { ANNOTATION } from '../oci/annotations.ts';
import { quote } from '../oci/errors.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { refusal } from './refuse.ts';
import { logExtraFields, type Setting, string } from './setting.ts';

export function identitySettings(spec: RuntimeSpec, context: UnitContext): Setting[] {
  return [
    string('Description', `OCI container ${context.unit} (${imageInWords(context)})`, 'Unit'),
    string('Slice', sliceOf(spec, context)),
    string('SyslogIdentifier', logTag(spec, context)),
    logExtraFields(journalFields(context)),
  ];
}

/** `docker.io/library/nginx:latest, sha256:0123456789ab` */
function imageInWords({ imageName, manifestDigest }: UnitContext): string {
  const digest = manifestDigest.slice(0, manifestDigest.indexOf(':') + 1 + DIGEST_DIGITS);
  return digest === '' ? imageName : `${imageName}, ${digest}`;
}
const DIGEST_DIGITS = 12;

/** linux.cgroupsPath of systemd's form, SLICE:PREFIX:NAME, names a slice; the unit has its own name. */
function sliceOf(spec: RuntimeSpec, context: UnitContext): string {
  const path = spec.linux.cgroupsPath;
  if (path === undefined || path === '') return context.slice;
  const [slice = '', , ...rest] = path.split(':');
  if (rest.length === 1 && /^[A-Za-z0-9_.@\\-]+\.slice$/.test(slice)) return slice;
  throw refusal(
    'linux.cgroupsPath',
    `systemd alone makes cgroups, and ${quote(path)} is no SLICE:PREFIX:NAME`,
    'Remove it, and choose a slice with --slice.',
  );
}

/** Identifier of the lines in the journal. */
export function logTag(spec: RuntimeSpec, context: UnitContext): string {
  return spec.annotations[ANNOTATION.logTag] ?? context.unit;
}

/** What every journal line of the container says of it. */
export function journalFields(context: UnitContext): string[] {
  return [
    `OCI_IMAGE=${oneWord(context.imageName)}`,
    ...(context.manifestDigest === '' ? [] : [`OCI_MANIFEST_DIGEST=${context.manifestDigest}`]),
    `OCI_UNIT=${context.unit}.service`,
  ];
}

export function setupIdentitySettings(context: UnitContext): Setting[] {
  return [
    string('Description', `Namespaces and mounts of OCI container ${context.unit}`, 'Unit'),
    string('Slice', context.slice),
  ];
}

/** systemd does not quote journal fields in the file of a transient unit; the directory of a bundle may need it. */
function oneWord(text: string): string {
  return text.replace(/[^\x21-\x7e]|["'\\]/g, '_');
}
