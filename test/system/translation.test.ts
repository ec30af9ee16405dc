/**
 * What options and bundles ask for, as systemd has it (exact properties) and as the payload sees it. Whether the
 * kernel enforces a limit is for a machine that has the controllers.
 */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { type RunResult, sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers, rangeOf, unitProperties } from './container.ts';

const machine = sharedMachine();
const run = (...args: string[]) => machine.run(['oci-run', ...args]);
const inside = async (options: readonly string[], script: string): Promise<string> =>
  stdoutOf(await run('--pipe', ...options, BUSYBOX, 'sh', '-c', script)).trimEnd();
const WAIT = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'];

function assertRefused({ status, stdout, stderr }: RunResult, wanted: number, part: string): void {
  assert.equal(status, wanted, stderr);
  assert.equal(stdout, '');
  const [error = '', hint = '', ...rest] = stderr.trimEnd().split('\n');
  assert.ok(error.startsWith('oci-run: ') && error.includes(part), error);
  assert.match(hint, /^hint: [A-Z]/);
  assert.deepEqual(rest, []);
}

before(async () => {
  stdoutOf(await machine.run(['oci-pull', '--quiet', BUSYBOX]));
  stdoutOf(
    await machine.script(`
      rm -rf /var/tmp/translation; mkdir -p /var/tmp/translation; cd /var/tmp/translation
      skopeo copy --quiet docker://${BUSYBOX} oci:layout:busybox
      umoci unpack --image layout:busybox umoci
      mkdir crun; cp -a umoci/rootfs crun/; cd crun; crun spec`),
  );
});

afterEach(async () => {
  await endContainers(machine);
  await machine.run(['systemctl', 'reset-failed']);
  await assertNothingLeft(machine);
});

test('limits and scheduling become exactly these properties', async () => {
  stdoutOf(
    await run(
      ...['--unit', 'limited', '--memory', '256M', '--memory-reservation', '64M', '--memory-swap', '320M'],
      ...['--cpus', '0.5', '--cpu-weight', '250', '--cpuset-cpus', '0-1', '--cpuset-mems', '0'],
      ...['--io-weight', '300', '--pids-limit', '77', '--ulimit', 'nofile=1000:2000', '--ulimit', 'core=0'],
      ...['-p', 'MemoryHigh=200M', '-p', 'OOMScoreAdjust=500', '-p', 'RuntimeMaxSec=1h'],
      ...['-p', 'Description=odd %n $X "q"', '-p', 'LogRateLimitBurst=5', '-p', 'After=dbus.service'],
      BUSYBOX,
      ...WAIT,
    ),
  );
  const wanted = {
    MemoryMax: String(256 * 2 ** 20),
    MemoryLow: String(64 * 2 ** 20),
    MemorySwapMax: String(64 * 2 ** 20),
    MemoryHigh: String(200 * 2 ** 20),
    CPUQuotaPerSecUSec: '500ms',
    CPUWeight: '250',
    AllowedCPUs: '0-1',
    AllowedMemoryNodes: '0',
    IOWeight: '300',
    TasksMax: '77',
    LimitNOFILE: '2000',
    LimitNOFILESoft: '1000',
    LimitCORE: '0',
    OOMScoreAdjust: '500',
    RuntimeMaxUSec: '1h',
    Description: 'odd %n $X "q"',
    LogRateLimitBurst: '5',
    DevicePolicy: 'closed',
    Restart: 'no',
  };
  assert.deepEqual(await unitProperties(machine, 'limited', ...Object.keys(wanted)), wanted);
  const { After, MainPID } = await unitProperties(machine, 'limited', 'After', 'MainPID');
  assert.ok(
    After!.split(' ').includes('dbus.service') && After!.split(' ').includes('limited-setup.service'),
  );
  const limits = stdoutOf(await machine.run(['cat', `/proc/${MainPID}/limits`]));
  assert.match(limits, /^Max open files +1000 +2000 /m);
  assert.equal(stdoutOf(await machine.run(['cat', `/proc/${MainPID}/oom_score_adj`])).trim(), '500');
});

test('every value arrives byte for byte, also after systemd has read its units again', async () => {
  const args = ['%n%%', '$HOME ${PATH', '-@+!:x', '"q" \'s\'', 'a\nb\tc', '\\', '', 'ü\u2028', '#c;d', ' e '];
  const env = [
    'PCT=%n',
    'DOLLAR=$HOME',
    'QUOTE="\'',
    'LINES=a\nExecStart=/x\n',
    'BACK=\\',
    'EMPTY=',
    'D.OT=é',
  ];
  const label = 'we%ird=$x\n"y"';
  const script =
    'trap "exit 0" TERM; for a; do printf "%s\\0" "$a"; done >/out/args; env -0 2>/dev/null >/out/env || cat /proc/self/environ >/out/env; ' +
    'echo x >>/out/starts; while :; do sleep 0.1; done';
  stdoutOf(
    await run(
      ...['--unit', 'nasty@1.a_b', '--log-tag', 't%g $x', '--label', label, '-v', 'nasty:/out'],
      ...env.flatMap((entry) => ['-e', entry]),
      ...['-w', '/wo rk%n/$x', BUSYBOX, 'sh', '-c', script, 'sh', ...args],
    ),
  );
  const seen = async (starts: number) => {
    const read = `cd /var/lib/oci/volumes/nasty; for i in $(seq 100); do [ "$(wc -l <starts)" = ${starts} ] && break; sleep 0.05; done; cat`;
    return {
      args: stdoutOf(await machine.script(`${read} args`)).split('\0'),
      env: stdoutOf(await machine.script(`${read} env`))
        .split('\0')
        .filter(
          (entry) => env.some((own) => entry.startsWith(`${own.split('=')[0]}=`)) || entry.startsWith('PWD='),
        )
        .sort(),
    };
  };
  const expected = { args: [...args, ''], env: [...env, 'PWD=/wo rk%n/$x'].sort() };
  assert.deepEqual(await seen(1), expected);
  stdoutOf(await machine.script("systemctl daemon-reload; systemctl restart 'nasty@1.a_b'"));
  assert.deepEqual(await seen(2), expected);
  const properties = await unitProperties(
    machine,
    'nasty@1.a_b',
    'SyslogIdentifier',
    'Description',
    'ExecStart',
  );
  assert.equal(properties['SyslogIdentifier'], 't%g $x');
  const config = JSON.parse(
    stdoutOf(await machine.run(['cat', '/run/oci/containers/nasty@1.a_b/config.json'])),
  );
  assert.equal(config.annotations['we%ird'], '$x\n"y"');
  stdoutOf(await machine.run(['systemctl', 'stop', 'nasty@1.a_b']));
  stdoutOf(await machine.run(['rm', '-r', '/var/lib/oci/volumes/nasty']));
});

test('capabilities, groups, no_new_privs', async () => {
  const caps = 'grep -E "^(Cap|NoNew)" /proc/self/status | tr -d "\\t"';
  assert.equal(
    await inside(['--cap-drop', 'ALL'], caps),
    ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map((set) => `${set}:0000000000000000\n`).join('') +
      'NoNewPrivs:0',
  );
  assert.equal(
    await inside(
      ['--cap-drop', 'all', '--cap-add', 'net_raw,CAP_CHOWN', '--security-opt', 'no-new-privileges'],
      caps,
    ),
    'CapInh:0000000000000000\nCapPrm:0000000000002001\nCapEff:0000000000002001\nCapBnd:0000000000002001\nCapAmb:0000000000000000\nNoNewPrivs:1',
  );
  // a user other than root gets what was added by name, and nothing else
  assert.equal(
    await inside(['--user', '1000', '--cap-add', 'NET_RAW'], caps),
    'CapInh:0000000000002000\nCapPrm:0000000000002000\nCapEff:0000000000002000\nCapBnd:00000000800425fb\nCapAmb:0000000000002000\nNoNewPrivs:0',
  );
  assert.equal(await inside(['--user', '5:6', '--group-add', '7', '--group-add', '8'], 'id -G'), '6 7 8');
});

test('mounts: flags, tmpfs, id mapping, propagation, volumes', async () => {
  stdoutOf(
    await machine.script(
      'while umount /var/tmp/m/sub 2>/dev/null; do :; done; mkdir -p /var/tmp/m/sub; echo host >/var/tmp/m/f; chown 1000:1000 /var/tmp/m/f; chmod 640 /var/tmp/m/f; chmod 777 /var/tmp/m; mount -t tmpfs sub /var/tmp/m/sub',
    ),
  );
  const options = (path: string) => `grep " ${path} " /proc/self/mountinfo | head -1 | cut -d" " -f6`;
  assert.equal(
    await inside(['-v', '/var/tmp/m:/m:nosuid,nodev,noexec'], options('/m')),
    'rw,nosuid,nodev,noexec,relatime',
  );
  assert.match(
    await inside(['-v', '/var/tmp/m:/m:ro,noexec'], `${options('/m')}; touch /m/x 2>&1 || true`),
    /^ro,noexec,relatime\n.*Read-only/,
  );
  assert.equal(
    await inside(
      ['-v', '/var/tmp/m:/m'],
      'stat -c %u:%g /m/f; ls -d /m/sub; grep -c " /m/sub " /proc/self/mountinfo',
    ),
    '65534:65534\n/m/sub\n1',
  );
  assert.equal(
    await inside(['-v', '/var/tmp/m:/m:bind'], 'grep -c " /m/sub " /proc/self/mountinfo || true'),
    '0',
  );
  assert.equal(
    await inside(
      ['-v', '/var/tmp/m:/m:bind,idmap', '--user', '1000:1000'],
      'stat -c %u:%g /m/f; cat /m/f; echo new >/m/g; id -u',
    ),
    '1000:1000\nhost\n1000',
  );
  assert.equal(stdoutOf(await machine.run(['stat', '-c', '%u', '/var/tmp/m/g'])).trim(), '1000');
  assert.match(
    await inside(['--tmpfs', '/t:size=1M,mode=700', '--shm-size', '2M'], 'mount | grep -E " /(t|dev/shm) "'),
    /^shm on \/dev\/shm .*size=2048k.*\n.* on \/t type tmpfs \(rw,nosuid,nodev,relatime,size=1024k,mode=700/,
  );
  assert.equal(
    await inside(['--tmpfs', '/etc'], 'test -s /etc/passwd && touch /etc/x && stat -c %u:%a /etc'),
    '0:755',
  );
  assert.equal(
    await inside(
      ['--mount', 'type=bind,src=/var/tmp/m,dst=/m,ro', '--mount', 'type=tmpfs,dst=/t,tmpfs-size=1M'],
      'cat /m/sub/. 2>/dev/null; touch /t/x; grep -c " /t " /proc/self/mountinfo',
    ),
    '1',
  );
  // rslave: what the host mounts later appears; rprivate: it does not
  for (const [propagation, count] of [
    ['rslave', '1'],
    ['rprivate', '0'],
  ] as const) {
    stdoutOf(await run('--unit', 'prop', '-v', `/var/tmp/m:/m:${propagation}`, BUSYBOX, ...WAIT));
    const { MainPID } = await unitProperties(machine, 'prop', 'MainPID');
    const found = await machine.script(
      `mkdir -p /var/tmp/m/late; mount -t tmpfs late /var/tmp/m/late; grep -c " /m/late " /proc/${MainPID}/mountinfo || true; umount /var/tmp/m/late`,
    );
    assert.equal(stdoutOf(found).trim(), count, propagation);
    stdoutOf(await machine.run(['systemctl', 'stop', 'prop']));
  }
  // a volume is made with what the image has there, belongs to the container's ids, and stays
  assert.equal(
    await inside(['-v', 'data:/etc'], 'test -s /etc/passwd && echo mine >/etc/own && stat -c %u /etc/own'),
    '0',
  );
  assert.equal(await inside(['-v', 'data:/x', '--read-only'], 'cat /x/own; stat -c %u /x/own'), 'mine\n0');
  assert.equal(
    stdoutOf(await machine.run(['stat', '-c', '%u', '/var/lib/oci/volumes/data/own'])).trim(),
    '2147352576',
  );
  // nobody's data is in the way of a volume that is being made
  stdoutOf(
    await machine.script(
      'mkdir /var/lib/oci/volumes/fresh.two; echo precious >/var/lib/oci/volumes/fresh.two/x',
    ),
  );
  stdoutOf(await run('--unit', 'two', '-v', 'fresh:/x', BUSYBOX, ...WAIT));
  const volumes = JSON.parse(stdoutOf(await machine.run(['ocictl', '--json', 'volume', 'ls'])));
  assert.deepEqual(
    volumes.map(({ name, users }: { name: string; users: string[] }) => [name, ...users]),
    [['data'], ['fresh', 'two'], ['fresh.two']],
  );
  const busy = await machine.run(['ocictl', 'volume', 'rm', 'data', 'fresh']);
  assert.deepEqual(
    [busy.status, busy.stderr],
    [
      75,
      "ocictl: volume 'fresh' is in use by 'two.service'\nhint: Stop it with systemctl stop two.service; an installed one: ocictl uninstall two.\n",
    ],
  );
  stdoutOf(await machine.script('cat /var/lib/oci/volumes/fresh.two/x; systemctl stop two'));
  stdoutOf(await machine.run(['ocictl', 'volume', 'rm', 'data', 'fresh', 'fresh.two']));
  assert.equal(stdoutOf(await machine.run(['ls', '-A', '/var/lib/oci/volumes'])), '');
  stdoutOf(await machine.script('umount /var/tmp/m/sub; rm -r /var/tmp/m'));
});

test('mounts at places that systemd mistakes stay through a daemon-reload and a restart', async () => {
  const look = 'cat "/a b:c\\"d\\\\e%n"/f /p%n\\$X/f; trap "exit 0" TERM; while :; do sleep 0.1; done';
  stdoutOf(await machine.script('mkdir -p /var/tmp/m; echo found >/var/tmp/m/f'));
  const mount = (place: string) => ['--mount', `type=bind,src=/var/tmp/m,dst=${place}`];
  stdoutOf(
    await run('--unit', 'places', ...mount('/a b:c"d\\e%n'), ...mount('/p%n$X'), BUSYBOX, 'sh', '-c', look),
  );
  const { BindPaths } = await unitProperties(machine, 'places', 'BindPaths');
  stdoutOf(await machine.script('systemctl daemon-reload; systemctl restart places'));
  assert.equal((await unitProperties(machine, 'places', 'BindPaths'))['BindPaths'], BindPaths);
  const lines = await machine.script(
    'for i in $(seq 100); do journalctl --sync; [ $(journalctl -o cat -u places | grep -c ^found$) = 4 ] && break; sleep 0.1; done; journalctl -o cat -u places | grep -c ^found$; systemctl stop places; rm -r /var/tmp/m',
  );
  assert.equal(stdoutOf(lines), '4\n');
});

test('devices, sysctls, names, hosts', async () => {
  assert.match(
    await inside(['--device', '/dev/fuse:/dev/my/fuse:rw'], 'ls -ln /dev/my/fuse'),
    /^crw-rw-rw- +1 0 +0 +10, 229 .*\/dev\/my\/fuse$/,
  );
  stdoutOf(await run('--unit', 'dev', '--device', '/dev/fuse:rw', BUSYBOX, ...WAIT));
  assert.equal((await unitProperties(machine, 'dev', 'DeviceAllow'))['DeviceAllow'], '/dev/char/10:229 rw');
  assert.equal(
    await inside(
      [
        '--sysctl',
        'net.ipv4.conf.all.forwarding=1',
        '--sysctl',
        'kernel.shmmni=99',
        '--sysctl',
        'fs.mqueue.msg_max=9',
      ],
      'cd /proc/sys; cat net/ipv4/conf/all/forwarding kernel/shmmni fs/mqueue/msg_max net/ipv4/ip_unprivileged_port_start',
    ),
    '1\n99\n9\n0',
  );
  assert.notEqual(stdoutOf(await machine.run(['cat', '/proc/sys/kernel/shmmni'])).trim(), '99');
  assert.equal(
    await inside(
      ['--add-host', 'db:10.0.0.5', '--dns', '10.0.0.1', '--hostname', 'h'],
      'tail -1 /etc/hosts; cat /etc/resolv.conf',
    ),
    '10.0.0.5 db\nnameserver 10.0.0.1',
  );
});

test('--userns BASE:SIZE; --restart; --init where there is one', async () => {
  stdoutOf(await run('--unit', 'fixed', '--userns', '1966080000:65536', BUSYBOX, ...WAIT));
  assert.equal(await rangeOf(machine, 'fixed'), 1966080000);
  assertRefused(await run('--unit', 'second', '--userns', '1966080000:65536', BUSYBOX), 69, 'is in use');
  stdoutOf(await machine.run(['systemctl', 'stop', 'fixed']));
  assert.equal(
    await inside(['--userns', '2000027648:2000'], 'cat /proc/self/uid_map | tr -s " "'),
    ' 0 2000027648 2000',
  );

  const counted = await run(
    '--wait',
    '--unit',
    'again',
    '--restart',
    'on-failure:2',
    '-v',
    'count:/c',
    BUSYBOX,
    'sh',
    '-c',
    'echo x >>/c/n; exit 7',
  );
  assert.equal(counted.status, 7);
  assert.equal(
    stdoutOf(await machine.script('cd /var/lib/oci/volumes; cat count/n; rm -r count')),
    'x\nx\nx\n',
  );

  const init = await run('--pipe', '--init', BUSYBOX, 'sh', '-c', 'echo $$; cat /proc/1/comm');
  const has = await machine.script(
    'for f in /usr/bin/catatonit /usr/libexec/podman/catatonit /usr/bin/tini-static; do [ ! -e $f ] || echo $f; done',
  );
  if (stdoutOf(has) === '') assertRefused(init, 69, 'no static init');
  else assert.match(stdoutOf(init), /^[2-9]\n(catatonit|tini)/);
});

test('bundles of umoci and crun spec run unchanged', async () => {
  const dir = '/var/tmp/translation';
  const before = stdoutOf(
    await machine.run(['sha256sum', `${dir}/umoci/config.json`, `${dir}/crun/config.json`]),
  );
  const script =
    'id -u; hostname; grep CapBnd /proc/self/status | cut -f2; ulimit -n; touch /made 2>&1; touch /sys/fs/cgroup/x 2>&1; exit 9\n';
  const bundle = (name: string, input: string) =>
    machine.run(['oci-run', '--pipe', '--bundle', `${dir}/${name}`], { input });
  const umoci = await bundle('umoci', script);
  assert.equal(umoci.status, 9, umoci.stderr);
  assert.equal(
    umoci.stdout,
    '0\numoci-default\n0000000020000420\n1024\ntouch: /sys/fs/cgroup/x: Read-only file system\n',
  );
  // the bundle's own tree was written to, as ids from 0
  assert.equal(
    stdoutOf(await machine.run(['stat', '-c', '%u:%g', `${dir}/umoci/rootfs/made`])).trim(),
    '0:0',
  );
  const crun = await bundle('crun', script);
  assert.equal(crun.status, 9, crun.stderr);
  assert.equal(
    crun.stdout,
    '0\ncrun\n0000000020000420\n1024\ntouch: /made: Read-only file system\ntouch: /sys/fs/cgroup/x: Read-only file system\n',
  );
  // a container whose cgroup is read-only can be joined as any other
  stdoutOf(
    await machine.script(
      `rm -rf ${dir}/long; mkdir ${dir}/long; cp -a ${dir}/crun/rootfs ${dir}/long; jq '.process.args = ["sleep", "100"]' ${dir}/crun/config.json >${dir}/long/config.json`,
    ),
  );
  stdoutOf(await run('--unit', 'long', '-p', 'TimeoutStopSec=1', '--bundle', `${dir}/long`));
  assert.equal(stdoutOf(await machine.run(['ocictl', 'exec', 'long', 'hostname'])), 'crun\n');
  stdoutOf(await machine.run(['systemctl', 'stop', 'long']));
  assert.equal(
    stdoutOf(await machine.run(['sha256sum', `${dir}/umoci/config.json`, `${dir}/crun/config.json`])),
    before,
  );
  assert.equal(
    stdoutOf(
      await machine.script(
        `cd ${dir}; find crun/rootfs -newer layout/index.json | grep -v '^crun/rootfs$' || true`,
      ),
    ),
    '',
  );
});

test('a bundle of podman runs unchanged', async () => {
  const podman = 'podman --root /var/tmp/translation/podman --storage-driver vfs';
  stdoutOf(
    await machine.script(`
      ${podman} create --quiet --name odd --network=none --cgroups=disabled --hostname boxed --user 1000:1001 ${BUSYBOX} \\
        sh -c 'id -u; id -g; hostname; cat /etc/hostname; echo "$container $HOME"; touch /tmp/made; exit 8'
      ${podman} init odd`),
  );
  const config = stdoutOf(await machine.script(`${podman} inspect odd --format '{{.OCIConfigPath}}'`)).trim();
  const before = stdoutOf(await machine.run(['sha256sum', config]));
  const ended = await run('--pipe', '--bundle', config.replace(/\/config\.json$/, ''));
  assert.equal(ended.status, 8, ended.stderr);
  assert.equal(ended.stdout, '1000\n1001\nboxed\nboxed\npodman /\n');
  assert.equal(stdoutOf(await machine.run(['sha256sum', config])), before);
  stdoutOf(await machine.script(`${podman} rm --force odd`));
});

test('a root whose mount points are links or files: covered in a container, refused in a bundle, never followed', async () => {
  const dir = '/var/tmp/translation/links';
  stdoutOf(
    await machine.script(`
      rm -rf ${dir} /outside; mkdir ${dir} /outside; chmod 777 /outside; cd ${dir}
      cp -a ../layout ../umoci .; cd umoci/rootfs; rm -rf proc sys run tmp dev etc/hosts
      ln -s /outside proc; echo file >sys; ln -s ../../../../outside run; ln -s /outside/x tmp; ln -s /dev/none dev
      mkdir etc/hosts; ln -s /outside/resolv etc/resolv.conf; chown 5:6 etc; chmod 711 etc
      umoci repack --image ../../layout:odd ..`),
  );
  for (const option of ['--read-only', '--hostname=h']) {
    const seen = stdoutOf(
      await machine.run([
        ...['oci-run', '--pipe', option, '--log-tag', 'x', `oci:${dir}/layout:odd`, 'sh', '-c'],
        'stat -c "%F %u" /proc /sys /run /dev /etc/hosts; stat -c %u:%g:%a /etc; cat /proc/1/comm; grep -c localhost /etc/hosts; ls -d /outside; echo x >/run/x; touch /dev/shm/x',
      ]),
    );
    assert.equal(
      seen,
      'directory 65534\ndirectory 65534\ndirectory 0\ndirectory 0\nregular file 0\n5:6:711\nsh\n2\n/outside\n',
    );
  }
  const bundle = await machine.run(['oci-run', '--pipe', '--bundle', `${dir}/umoci`], {
    input: 'echo inside\n',
  });
  assertRefused(bundle, 65, "'/proc' of the bundle's rootfs is a symlink, not a directory");
  assert.equal(stdoutOf(await machine.run(['find', '/outside', '-mindepth', '1'])), '');
});

test('hooks of the runtime run with the state; a failing one stops the start', async () => {
  const dir = '/var/tmp/translation/hooks';
  stdoutOf(
    await machine.script(`
      rm -rf ${dir}; mkdir ${dir}; cp -a ${dir}/../umoci/rootfs ${dir}/
      printf '#!/bin/sh\\ncat >${dir}/$1; echo "$X" >>${dir}/$1; readlink /proc/$(jq .pid ${dir}/$1 2>/dev/null)/ns/net >>${dir}/$1 2>/dev/null\\nexit 0\\n' >${dir}/hook; chmod 755 ${dir}/hook
      jq '.hooks = {createRuntime: [{path: "${dir}/hook", args: ["hook", "created"], env: ["X=it'"'"'s"], timeout: 5}], poststop: [{path: "${dir}/hook", args: ["hook", "stopped"]}]}' ${dir}/../umoci/config.json >${dir}/config.json`),
  );
  stdoutOf(
    await machine.run(['oci-run', '--pipe', '--unit', 'hooked', '--bundle', dir], { input: 'true\n' }),
  );
  const [state = '', ...rest] = stdoutOf(await machine.run(['cat', `${dir}/created`]))
    .replace('}it', '}\nit')
    .split('\n');
  const { pid, ...known } = JSON.parse(state);
  assert.ok(Number.isInteger(pid) && pid > 1);
  assert.equal(known.id, 'hooked');
  assert.equal(known.status, 'creating');
  assert.equal(known.bundle, dir);
  assert.equal(rest[0], "it's");
  assert.match(
    stdoutOf(await machine.script(`until [ -s ${dir}/stopped ]; do sleep 0.05; done; cat ${dir}/stopped`)),
    /"status":"stopped"/,
  );
  stdoutOf(
    await machine.script(
      `jq '.hooks.prestart = [{path: "/bin/false"}]' ${dir}/config.json >${dir}/c; mv ${dir}/c ${dir}/config.json`,
    ),
  );
  const failed = await machine.run(['oci-run', '--pipe', '--unit', 'hooked', '--bundle', dir]);
  assert.equal(failed.status, 69);
  assert.match(failed.stderr, /hook \/bin\/false failed/);
});

test('joined network, masked paths, rlimits and the rest of a bundle', async () => {
  const dir = '/var/tmp/translation/rest';
  stdoutOf(
    await machine.script(`
      ip netns del joined 2>/dev/null || true; ip netns add joined
      rm -rf ${dir}; mkdir ${dir}; cp -a ${dir}/../umoci/rootfs ${dir}/
      jq '.linux.namespaces |= map(if .type == "network" then .path = "/run/netns/joined" else . end)
        | .domainname = "example.org" | .process.oomScoreAdj = 300 | .process.terminal = false
        | .process.scheduler = {policy: "SCHED_BATCH", nice: 5} | .process.ioPriority = {class: "IOPRIO_CLASS_IDLE"}
        | .process.user.umask = 63 | .linux.cgroupsPath = "other.slice:p:n" | .linux.rootfsPropagation = "rslave"
        | .linux.personality = {domain: "LINUX32"} | .linux.resources.cpu = {shares: 2048, quota: 20000, period: 50000}
        | .linux.resources.unified = {"memory.high": "1000000", "io.weight": "default 50"}
        | .mounts += [{destination: "/m", type: "bind", source: "sub", options: ["rbind", "ro"]}]' ${dir}/../umoci/config.json >${dir}/config.json
      mkdir ${dir}/sub; echo rel >${dir}/sub/f`),
  );
  const seen = await machine.run(['oci-run', '--pipe', '--unit', 'rest', '--bundle', dir], {
    input:
      'cat /proc/sys/kernel/domainname /proc/self/oom_score_adj /m/f; umask; uname -m; readlink /proc/self/ns/net; sleep 1\n',
  });
  const net = stdoutOf(await machine.script('stat -L -c %i /run/netns/joined')).trim();
  assert.equal(seen.stdout, `example.org\n300\nrel\n0077\ni686\nnet:[${net}]\n`, seen.stderr);
  stdoutOf(
    await machine.script(
      `jq '.process.args = ["sleep", "100"]' ${dir}/config.json >${dir}/c; mv ${dir}/c ${dir}/config.json`,
    ),
  );
  stdoutOf(await run('--unit', 'rest', '--bundle', dir));
  const wanted = {
    CPUWeight: '174',
    CPUQuotaPerSecUSec: '400ms',
    CPUQuotaPeriodUSec: '50ms',
    MemoryHigh: '1000000',
    IOWeight: '50',
    CPUSchedulingPolicy: '3',
    IOSchedulingClass: '3',
    Personality: 'x86',
    Slice: 'other.slice',
    UMask: '0077',
  };
  assert.deepEqual(await unitProperties(machine, 'rest', ...Object.keys(wanted)), wanted);
  await endContainers(machine);
  stdoutOf(await machine.script('systemctl stop other.slice; ip netns del joined'));
});

test('what cannot be honoured is refused by name', async () => {
  assertRefused(await run('--privileged', BUSYBOX), 69, '--privileged');
  assertRefused(await run('--sysctl', 'kernel.panic=1', BUSYBOX, 'true'), 64, "--sysctl 'kernel.panic'");
  assertRefused(
    await run('--network', 'host', '--sysctl', 'net.core.somaxconn=1', BUSYBOX, 'true'),
    64,
    'network namespace',
  );
  assertRefused(await run('-p', 'ExecStartPre=/bin/true', BUSYBOX), 69, "'ExecStartPre'");
  assertRefused(await run('-p', 'Description=a\nExecStartPre=/bin/true', BUSYBOX, 'true'), 69, 'Description');
  assertRefused(await run('--device', '/etc/passwd', BUSYBOX), 64, '--device');
  assertRefused(await run('--bundle', '/var/tmp/translation/umoci', '--memory', '1G'), 64, '--memory');
  assertRefused(await run('--bundle', '/var/tmp/translation/umoci', 'image'), 64, "'image'");
  assertRefused(await run('--bundle', '/no/such/bundle'), 66, 'config.json');
  await machine.writeFile('/var/tmp/translation/broken/config.json', '{');
  const broken = await run('--bundle', '/var/tmp/translation/broken');
  assertRefused(broken, 65, 'config.json');
  assert.match(broken.stderr, /Correct config\.json/);
  assertRefused(await run(), 64, 'no image');
});

test('the text of --dry-run is what systemd takes', async () => {
  const shown = stdoutOf(
    await run(
      ...[
        '--dry-run',
        '--unit',
        'dry',
        '--memory',
        '64M',
        '--cpus',
        '0.25',
        '--cpuset-cpus',
        '0',
        '-e',
        'A=%n "x"\ny',
      ],
      ...['-v', '/srv:/a%nb:ro', '--tmpfs', '/t', '--ulimit', 'nofile=10:20', '--restart', 'on-failure:3'],
      ...['--device', '/dev/fuse', '-p', 'LoadCredential=c:/etc/hostname', '--io-weight', '20'],
      ...[BUSYBOX, 'echo', '100%', '$x', 'a\nb', "it's"],
    ),
  );
  const units = shown.split(/^# (?=dry)/m).filter((text) => text !== '');
  assert.equal(units.length, 4);
  for (const text of units) {
    const [name = ''] = text.split('\n');
    await machine.writeFile(`/run/systemd/system/${name}`, text.slice(name.length + 1));
  }
  const names = units.map((text) => `/run/systemd/system/${text.split('\n')[0]}`);
  // the programs of the shim are there only while a container runs
  const verified = await machine.script(
    `mkdir -p /run/.oci; cp /bin/true /run/.oci/ld.so; SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no --recursive-errors=no ${names.join(' ')} 2>&1; rm -r /run/.oci ${names.join(' ')}; systemctl daemon-reload`,
  );
  assert.equal(verified.stdout, '');
  assert.equal(verified.status, 0);
});
