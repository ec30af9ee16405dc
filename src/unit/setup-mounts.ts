/**
 * The part of the setup script that prepares mounts below the container's own directory: what systemd then binds
 * into the payload's tree. No destination is resolved here; what begins with the image's files takes them from a
 * canonical path, as the container's root and with its rights alone.
 *
 * Every prepared bind is cut off from its source first (a peer would pass an unmount on to the host) and then
 * shared, so that the teardown reaches the copies in other services' namespaces.
 */
import { FOREIGN_UID_BASE } from '../oci/limits.ts';
import type { RuntimeSpec } from '../oci/runtime-spec.ts';
import type { UnitContext } from './context.ts';
import { credentialLines } from './credentials.ts';
import type { Mount } from './fstab.ts';
import { imageLines } from './image-mounts.ts';
import type { BindMount, MountPlan, TemporaryFileSystem } from './mounts.ts';
import { plantedMounts, REACH } from './planted-mounts.ts';
import { isPlainPath } from './setting.ts';
import { shellWord } from './shell.ts';

/**
 * The root's own /run where it is a directory: systemd would hide it below an empty one. In memory where systemd
 * could not make its own mount points in the root: it is read-only, or host root has no id in it.
 */
export function runMounts(
  plan: MountPlan,
  spec: RuntimeSpec,
  context: UnitContext,
  root: readonly Mount[],
): Mount[] {
  const { run } = plan;
  if (run !== undefined || isRunFresh(spec, context))
    return [
      { source: 'tmpfs', target: 'run', type: 'tmpfs', options: temporaryOptions(run?.options ?? RUN) },
    ];
  return root.length > 0 && isRunDirectory(context)
    ? [{ source: '"$MOUNTS_FIELD/rootfs/run"', target: 'run', type: 'none', options: 'bind' }]
    : [];
}

/** What is left to do once the root is mounted; `root`: the mounts of the table that make it, none where it came later. */
export function runTree(
  plan: MountPlan,
  spec: RuntimeSpec,
  context: UnitContext,
  root: readonly Mount[],
): string {
  const { run } = plan;
  const isMounted = runMounts(plan, spec, context, root).length > 0;
  const tree = !isMounted
    ? `mkdir run
if [ -d rootfs/run ] && [ ! -L rootfs/run ]; then mount --bind rootfs/run run; else ${temporary('run', RUN)}; fi`
    : (run?.copyUp ?? isRunFresh(spec, context))
      ? copyUp('/run', 'run', context)
      : '';
  const open = context.opensRun ? '\nchmod +x run' : '';
  return `${tree}${open}\n[ -d run/.oci ] && [ ! -L run/.oci ] || { rm -rf run/.oci; mkdir run/.oci; }`;
}

const RUN = ['mode=755', 'nosuid', 'nodev'];

function isRunFresh(spec: RuntimeSpec, { rootfs }: UnitContext): boolean {
  return rootfs !== undefined || spec.root.readonly === true;
}

/** Seen now: what the image has there, or else the layer below it. */
function isRunDirectory({ copyUp, scaffold }: UnitContext): boolean {
  return copyUp.get('/run') === '/run' || scaffold.directories.some((path) => `${path}/`.startsWith('/run/'));
}

export function preparedMounts(plan: MountPlan, context: UnitContext): string {
  const walks = [...nestedPoints(plan), ...plantedMounts(plan, context)];
  const hasSubpath = plan.binds.some(({ imagePath = '/' }) => imagePath !== '/');
  return [
    ...(walks.length > 0 || hasSubpath ? [REACH] : []),
    ...plan.temporary.map((mount) => temporaryLines(mount, context)),
    ...plan.binds
      .filter((bind) => bind.name !== undefined)
      .map((bind) =>
        bind.isCredentials
          ? credentialLines(bind, context)
          : bind.imagePath === undefined
            ? bindLines(bind, context)
            : imageLines(bind, context),
      ),
    ...walks,
  ].join('\n');
}

/** Mount points in what is id-mapped: root of the host, as which systemd makes them elsewhere, has no id there. */
function nestedPoints(plan: MountPlan): string[] {
  const all = [...plan.binds, ...plan.temporary];
  const inners = all.filter(({ destination }) => isPlainPath(destination));
  return inners.flatMap((inner) => {
    const [outer] = all
      .filter(({ destination }) => inner.destination.startsWith(`${destination}/`))
      .sort((a, b) => b.destination.length - a.destination.length);
    if (outer?.name === undefined || !('idBase' in outer) || outer.idBase === undefined) return [];
    const below = shellWord(inner.destination.slice(outer.destination.length + 1));
    const what = shellWord(inner.name ?? ('source' in inner ? inner.source : ''));
    return [`(reach ${outer.name} ${below} ${what})`];
  });
}

function temporaryLines(mount: TemporaryFileSystem, context: UnitContext): string {
  const copy = mount.copyUp ? copyUp(mount.destination, mount.name, context) : '';
  const mode = copy === '' || mount.mode === undefined ? '' : `\nchmod ${mount.mode} ${mount.name}`;
  return `mkdir ${mount.name}\n${temporary(mount.name, mount.options)}${copy}${mode}`;
}

function temporary(name: string, options: readonly string[]): string {
  return `mount -t tmpfs -o ${temporaryOptions(options)} tmpfs ${name}`;
}

function temporaryOptions(options: readonly string[]): string {
  return [...options, 'uid=$B', 'gid=$B'].join(',');
}

/** With the attributes of the directory itself; nothing where the root has no such directory. */
function copyUp(destination: string, name: string, context: UnitContext): string {
  const path = context.copyUp.get(destination);
  if (path === undefined) return '';
  return `\nas_root cp -a ${shellWord(`rootfs${path}/.`)} ${name}/`;
}

function bindLines(bind: BindMount, context: UnitContext): string {
  const { name = '', idBase, isVolume, isMade } = bind;
  const source = shellWord(bind.source);
  const mount = (from: string, mapped = idBase !== undefined) => {
    const base = idBase === 'foreign' ? FOREIGN_UID_BASE : 0;
    const options = [...bind.flags, ...(mapped ? [`X-mount.idmap=b:${base}:$B:$SIZE`] : [])];
    return `mount --${bind.recursive ? 'rbind' : 'bind'} --make-r${bind.propagation ?? 'private'}${options.length > 0 ? ` -o "${options.join(',')}"` : ''} ${from} ${name}`;
  };
  const unmapped = `cannot map the ids of ${bind.source}: its file system does not allow that`;
  const otherwise =
    isMade && !isVolume // a configuration that everybody may read is one all the same
      ? ` ||\n  { echo ${shellWord(unmapped)} >&2; ${mount(source, false)}; }`
      : ` ||\n  fail ${shellWord(unmapped)}`;
  return [
    ...(isMade && !isVolume ? [`mkdir -p ${source}`] : []),
    isVolume ? `mkdir ${name}` : `if [ -d ${source} ]; then mkdir ${name}; else : >${name}; fi`,
    ...(isVolume ? [newVolume(source, mount('"$fresh"'), bind, context)] : []),
    `${mount(source)}${idBase === undefined ? '' : otherwise}`,
    `mount --make-rshared ${name}`,
  ].join('\n');
}

/**
 * A volume is made aside, under a name that no volume can have, and appears whole, with what the image has there. It
 * is the container's user's where the image has nothing, and where it is the unit's own.
 */
function newVolume(source: string, mount: string, bind: BindMount, context: UnitContext): string {
  const copy = copyUp(bind.destination, bind.name ?? '', context);
  const { uid, gid } = bind.owner;
  const own = `chown ${FOREIGN_UID_BASE + uid}:${FOREIGN_UID_BASE + gid} "$fresh"`;
  const root = `chown ${FOREIGN_UID_BASE}:${FOREIGN_UID_BASE} "$fresh"`;
  return `${bind.isMade ? noneOfTheHost(bind.source) : ''}if [ ! -d ${source} ]; then
fresh=${shellWord(bind.source.replace(/[^/]*$/, '.$&'))}.$NAME
rm -rf --one-file-system "$fresh"
mkdir -p -m 700 "\${fresh%/*}"
mkdir "$fresh"
${copy === '' ? own : root}
${mount}${copy}
umount ${bind.name}
${copy !== '' && bind.isMade ? `${own}\n` : ''}# -n: a rename would replace an empty one, which another start that was faster shows already
mv -nT "$fresh" ${source} 2>/dev/null || :
rm -rf --one-file-system "$fresh"
fi${bind.isMade ? ofTheUnit(bind.source) : ''}`;
}

/** At its usual place, as that of a service with DynamicUser= is, there is nothing else. */
function noneOfTheHost(source: string): string {
  const { link, target, refuse } = placesOf(source);
  return `[ "$(readlink ${link})" = ${target} ] || { [ ! -e ${link} ] && [ ! -L ${link} ]; } ||
  ${refuse(source.replace('/private/', '/'))}
`;
}

/** Not one that the host had before; found at its usual place. */
function ofTheUnit(source: string): string {
  const { link, target, refuse } = placesOf(source);
  return `
[ "$(stat -c %u ${shellWord(source)})" -ge ${FOREIGN_UID_BASE} ] ||
  ${refuse(source)}
[ -L ${link} ] || ln -sT ${target} ${link} || [ -L ${link} ]`;
}

/** `source`: as /var/lib/private/NAME. Words of the shell. */
function placesOf(source: string) {
  return {
    link: shellWord(source.replace('/private/', '/')),
    target: shellWord(`private/${source.replace(/.*\//, '')}`),
    refuse: (path: string) => `fail ${shellWord(`${path} belongs to the host: name another directory`)}`,
  };
}
