/** A .container file as the command line of `ocictl install`. Pure. */
import { OciError, quote } from '../oci/errors.ts';
import { isTemplate, OF_AN_INSTANCE } from '../unit/unit-name.ts';
import { CONTAINER_KEYS, JOINT_KEYS, type Rule } from './container-keys.ts';
import { type Complaint, isRefused, type Outcome, type Part, refused } from './outcome.ts';
import { takePodmanArgument } from './podman-args.ts';
import { type HostFacts, type QuadletFile, serviceName, surroundingsOf } from './quadlet-file.ts';
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
  const parts: Part[] = [];
  const complaints: Complaint[] = [...file.unit.complaints];
  const misplacesInstance = (word: string) =>
    isTemplate(name) && word.includes('%i') && !OF_AN_INSTANCE.has(/^--([a-z-]+)=/.exec(word)?.[1] ?? '');
  const add = ({ line, key }: Pick<Assignment, 'line' | 'key'>, outcome: Outcome) => {
    const judged = isRefused(outcome) || !outcome.some(misplacesInstance) ? outcome : MISPLACED;
    if (isRefused(judged)) complaints.push({ line, key: `${key}=`, reason: judged.refused });
    else if (judged.length > 0) parts.push({ line, key: `${key}=`, words: judged });
  };
  const addValue = (assignment: Assignment, make: (value: string) => Outcome) => {
    const value = expandWord(unquoted(assignment.value), facts);
    add(assignment, typeof value === 'string' ? make(value) : value);
  };
  const last = (key: string) => keys.get(key)?.at(-1);

  for (const [key, assignments] of keys) {
    const rule = Object.hasOwn(CONTAINER_KEYS, key) ? CONTAINER_KEYS[key]! : undefined;
    if (rule !== undefined) for (const one of taken(rule, assignments)) useRule(rule, one);
    else if (!JOINT_KEYS.has(key)) for (const one of assignments) add(one, refused('there is no such key'));
  }
  function useRule(rule: Rule, assignment: Assignment): void {
    const words = rule.take === 'words' ? expandedWords(assignment.value, facts) : undefined;
    if (words === undefined) addValue(assignment, (value) => rule.make(value, around));
    else if (isRefused(words)) add(assignment, words);
    else for (const word of words) add(assignment, rule.make(word, around));
  }

  const [user, group] = [last('User'), last('Group')];
  if (user !== undefined)
    addValue(user, (value) => [`--user=${[value, ...(group === undefined ? [] : [group.value])].join(':')}`]);
  else if (group !== undefined) add(group, refused('without User= there is no Group='));
  addNames(keys, name, addValue);
  for (const assignment of keys.get('PodmanArgs') ?? []) {
    const words = expandedWords(assignment.value, facts);
    if (isRefused(words)) add(assignment, words);
    else
      for (let at = 0; at < words.length; ) {
        const { outcome, length } = takePodmanArgument(words.slice(at));
        add(assignment, outcome);
        at += length;
      }
  }
  if (keys.size > 0 && !(keys.get('Network') ?? []).length && !parts.some(asksForNetwork))
    // what podman gives a container that says nothing
    parts.unshift({
      line: keys.get('Image')?.at(-1)?.line ?? 1,
      key: 'Network=',
      words: ['--network=bridge'],
    });

  for (const section of SECTIONS)
    for (const assignments of sectionOf(file.unit, section).values())
      for (const assignment of assignments)
        addValue(assignment, (value) =>
          sectionOption(section, assignment.key, value, files, (other) => around.containers.get(other)),
        );
  const wanted = parts.find(({ key }) => key === 'WantedBy=');
  if (wanted !== undefined && !isTemplate(name)) parts.push({ ...wanted, words: ['--enable'] });
  complaints.push(...unknownSections(file));

  let command: readonly string[] = [];
  const exec = last('Exec');
  if (exec !== undefined) {
    const words = expandedWords(exec.value, facts);
    if (isRefused(words)) add(exec, words);
    else if (isTemplate(name) && words.some((word) => word.includes('%i'))) add(exec, MISPLACED);
    else command = words;
  }
  return {
    name,
    image: imageOf(file, last('Image'), facts),
    parts,
    command,
    complaints,
  };
}

function taken(rule: Rule, assignments: readonly Assignment[]): readonly Assignment[] {
  return rule.take === 'last' ? assignments.slice(-1) : assignments;
}

function asksForNetwork({ words }: Part): boolean {
  return words.some((word) => word.startsWith('--network='));
}

/** Others find a container by the name of its unit and its host name, so at most one more of podman's names fits. */
function addNames(
  keys: ReadonlyMap<string, readonly Assignment[]>,
  name: string,
  addValue: (assignment: Assignment, make: (value: string) => Outcome) => void,
): void {
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
