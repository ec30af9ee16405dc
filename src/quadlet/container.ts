/** A .container file as the command line of `ocictl install`. Pure. */
import { OciError, quote } from '../oci/errors.ts';
import { isTemplate, OF_AN_INSTANCE } from '../unit/unit-name.ts';
import { CONTAINER_KEYS, JOINT_KEYS, type Rule } from './container-keys.ts';
import { type Complaint, isRefused, type Outcome, type Part, refused } from './outcome.ts';
import { takePodmanArgument } from './podman-args.ts';
import {
  type HostFacts,
  type QuadletFile,
  type Surroundings,
  serviceName,
  surroundingsOf,
} from './quadlet-file.ts';
import { sectionOption } from './unit-sections.ts';
import { type Assignment, sectionOf } from './unit-syntax.ts';
import { expandedWords, expandWord, type SpecifierFacts, unquoted } from './words.ts';

export interface ContainerImport {
  /** Of the service, without suffix; of a template with its @. */
  readonly name: string;
  /** What Image= says: a name, or `NAME.image`, a file of those that are imported. */
  readonly image: string;
  /** Options, each with the line that asks for it. */
  readonly parts: readonly Part[];
  readonly command: readonly string[];
  readonly complaints: readonly Complaint[];
}

const MISPLACED = refused(
  'its instance is known to Environment=, ContainerName=, HostName=, Label= and Volume= only; pass it in a variable',
);

const SECTIONS = ['Unit', 'Service', 'Install', 'Quadlet'] as const;

/** Throws BAD_UNIT_FILE where it names no image. `files`: all that are imported, this one too. */
export function translateContainer(
  file: QuadletFile,
  files: readonly QuadletFile[],
  host: HostFacts,
): ContainerImport {
  const around = surroundingsOf(file, files, host);
  const name = serviceName(file);
  const facts: SpecifierFacts = { name, hostName: host.hostName };
  const keys = sectionOf(file.unit, 'Container');
  const translation = startTranslation(name, facts, file.unit.complaints);
  addKeys(translation, keys, around);
  addUser(translation, keys);
  addNames(translation, keys, name);
  addPodmanArgs(translation, keys);
  addNetwork(translation, keys);
  addSections(translation, file, files, around);
  if (!isTemplate(name)) addEnabling(translation);
  translation.complaints.push(...unknownSections(file));
  const command = commandOf(translation, keys);
  const { parts, complaints } = translation;
  return { name, image: imageOf(file, keys.get('Image')?.at(-1), facts), parts, command, complaints };
}

type Keys = ReadonlyMap<string, readonly Assignment[]>;

/** What a file has become so far. */
interface Translation {
  readonly parts: Part[];
  readonly complaints: Complaint[];
  add(assignment: Pick<Assignment, 'line' | 'key'>, outcome: Outcome): void;
  /** With its specifiers expanded and its quotes taken away. */
  addValue(assignment: Assignment, make: (value: string) => Outcome): void;
  /** The same for a value of several words. Undefined where they are refused. */
  wordsOf(assignment: Assignment): readonly string[] | undefined;
  /** Of a template: whether the word names the instance. */
  namesInstance(word: string): boolean;
}

function startTranslation(
  name: string,
  facts: SpecifierFacts,
  syntaxErrors: readonly Complaint[],
): Translation {
  const parts: Part[] = [];
  const complaints: Complaint[] = [...syntaxErrors];
  const namesInstance = (word: string) => isTemplate(name) && word.includes('%i');
  const misplacesInstance = (word: string) =>
    namesInstance(word) && !OF_AN_INSTANCE.has(/^--([a-z-]+)=/.exec(word)?.[1] ?? '');
  const add: Translation['add'] = ({ line, key }, outcome) => {
    const judged = isRefused(outcome) || !outcome.some(misplacesInstance) ? outcome : MISPLACED;
    if (isRefused(judged)) complaints.push({ line, key: `${key}=`, reason: judged.refused });
    else if (judged.length > 0) parts.push({ line, key: `${key}=`, words: judged });
  };
  return {
    parts,
    complaints,
    add,
    addValue(assignment, make) {
      const value = expandWord(unquoted(assignment.value), facts);
      add(assignment, typeof value === 'string' ? make(value) : value);
    },
    wordsOf(assignment) {
      const words = expandedWords(assignment.value, facts);
      if (!isRefused(words)) return words;
      add(assignment, words);
      return undefined;
    },
    namesInstance,
  };
}

/** The keys of [Container] that stand for themselves. */
function addKeys({ add, addValue, wordsOf }: Translation, keys: Keys, around: Surroundings): void {
  for (const [key, assignments] of keys) {
    const rule = Object.hasOwn(CONTAINER_KEYS, key) ? CONTAINER_KEYS[key]! : undefined;
    if (rule !== undefined) for (const one of taken(rule, assignments)) useRule(rule, one);
    else if (!JOINT_KEYS.has(key)) for (const one of assignments) add(one, refused('there is no such key'));
  }
  function useRule(rule: Rule, assignment: Assignment): void {
    if (rule.take !== 'words') addValue(assignment, (value) => rule.make(value, around));
    else for (const word of wordsOf(assignment) ?? []) add(assignment, rule.make(word, around));
  }
}

function addUser({ add, addValue }: Translation, keys: Keys): void {
  const [user, group] = [keys.get('User')?.at(-1), keys.get('Group')?.at(-1)];
  if (user !== undefined)
    addValue(user, (value) => [`--user=${[value, ...(group === undefined ? [] : [group.value])].join(':')}`]);
  else if (group !== undefined) add(group, refused('without User= there is no Group='));
}

function addPodmanArgs({ add, wordsOf }: Translation, keys: Keys): void {
  for (const assignment of keys.get('PodmanArgs') ?? []) {
    const words = wordsOf(assignment) ?? [];
    for (let at = 0; at < words.length; ) {
      const { outcome, length } = takePodmanArgument(words.slice(at));
      add(assignment, outcome);
      at += length;
    }
  }
}

/** What podman gives a container that says nothing. */
function addNetwork({ parts }: Translation, keys: Keys): void {
  if (keys.size === 0 || (keys.get('Network') ?? []).length > 0 || parts.some(asksForNetwork)) return;
  parts.unshift({
    line: keys.get('Image')?.at(-1)?.line ?? 1,
    key: 'Network=',
    words: ['--network=bridge'],
  });
}

/** Those that are systemd's own. */
function addSections(
  { addValue }: Translation,
  file: QuadletFile,
  files: readonly QuadletFile[],
  around: Surroundings,
): void {
  for (const section of SECTIONS)
    for (const assignments of sectionOf(file.unit, section).values())
      for (const assignment of assignments)
        addValue(assignment, (value) =>
          sectionOption(section, assignment.key, value, files, (other) => around.containers.get(other)),
        );
}

function addEnabling({ parts }: Translation): void {
  const wanted = parts.find(({ key }) => key === 'WantedBy=');
  if (wanted !== undefined) parts.push({ ...wanted, words: ['--enable'] });
}

function commandOf({ add, wordsOf, namesInstance }: Translation, keys: Keys): readonly string[] {
  const exec = keys.get('Exec')?.at(-1);
  const words = exec === undefined ? undefined : wordsOf(exec);
  if (exec === undefined || words === undefined) return [];
  if (!words.some(namesInstance)) return words;
  add(exec, MISPLACED);
  return [];
}

function taken(rule: Rule, assignments: readonly Assignment[]): readonly Assignment[] {
  return rule.take === 'last' ? assignments.slice(-1) : assignments;
}

function asksForNetwork({ words }: Part): boolean {
  return words.some((word) => word.startsWith('--network='));
}

/** Others find a container by the name of its unit and its host name, so at most one more of podman's names fits. */
function addNames({ addValue }: Translation, keys: Keys, name: string): void {
  const names = new Set([name]);
  const named = ['HostName', 'ContainerName', 'NetworkAlias'].flatMap((key) =>
    key === 'NetworkAlias' ? (keys.get(key) ?? []) : (keys.get(key)?.slice(-1) ?? []),
  );
  let hostname: string | undefined;
  for (const assignment of named)
    addValue(assignment, (value) => {
      if (names.has(value)) return [];
      names.add(value);
      if (hostname === undefined) {
        hostname = value;
        return [`--hostname=${value}`];
      }
      return refused(`the container has the names ${name} and ${hostname} already, and no more`);
    });
}

function imageOf(file: QuadletFile, assignment: Assignment | undefined, facts: SpecifierFacts): string {
  const image = assignment === undefined ? '' : expandWord(unquoted(assignment.value), facts);
  if (typeof image === 'string' && image !== '' && !image.startsWith('-')) return image;
  throw new OciError('BAD_UNIT_FILE', `${quote(file.path)} names no image`, {
    hint: 'Write Image=NAME into its section [Container].',
  });
}

/** Those that no program of the system reads begin with X-. */
export function unknownSections({ unit, kind }: QuadletFile): Complaint[] {
  const known = new Set<string>([...SECTIONS, kind[0]!.toUpperCase() + kind.slice(1)]);
  return unit.assignments
    .filter(({ section }) => !known.has(section) && !section.startsWith('X-'))
    .map(({ line, key, section }) => ({ line, key: `${key}=`, reason: `there is no section [${section}]` }));
}
