/** The network of containers: bridges, published ports, names, joined namespaces; and nothing of it left afterwards. */
import assert from 'node:assert/strict';
import { afterEach, before, test } from 'node:test';
import { sharedMachine, stdoutOf } from '../machine/machine.ts';
import { assertNothingLeft, BUSYBOX, endContainers, NGINX, REGISTRY, unitProperties } from './container.ts';

const FEDORA = `${REGISTRY}/fedora-mirror/fedora`;
const machine = sharedMachine();
const run = (...args: string[]) => machine.run(['oci-run', '--quiet', ...args]);
const started = async (...args: string[]) => stdoutOf(await run('--network', 'bridge', ...args));
const text = async (script: string) => stdoutOf(await machine.script(script)).trim();
/** In a container. */
const inside = (unit: string, script: string) => machine.run(['ocictl', 'exec', unit, 'sh', '-c', script]);
const stop = async (...units: string[]) => {
  stdoutOf(await machine.run(['systemctl', 'stop', ...units]));
};
/** What a web server says once it is up. */
const fetched = (tool: string, url: string) =>
  `for i in $(seq 150); do ${tool} ${url} 2>/dev/null && exit; sleep 0.2; done; exit 1`;
const SLEEP = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'];
const serve = (port: number, word: string) =>
  `mkdir /www; echo ${word} >/www/index.html; trap "exit 0" TERM; httpd -p ${port} -h /www; while :; do sleep 0.1; done`;

/** What a network may leave on a host. */
const STATE = `
echo '# nft'; nft list ruleset
echo '# links'; ip -o link | sed 's/^[0-9]*: //; s/ state .*//'
echo '# routes'; ip route; ip -6 route
echo '# mounts'; cut -d' ' -f2- /proc/mounts
echo '# run'; find /run -not -path '/run/systemd/*' -not -path '/run/log/*' -not -path '/run/user/*' | sort
echo '# dns'; pgrep -a aardvark-dns || true
`;
let state = '';

async function assertAsBefore(): Promise<void> {
  await assertNothingLeft(machine);
  let now = '';
  for (const deadline = Date.now() + 30_000; Date.now() < deadline; ) {
    now = await text(STATE);
    if (now === state) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(now, state);
}

before(async () => {
  // what is made once per boot
  await started('--wait', BUSYBOX, 'true');
  await assertNothingLeft(machine);
  state = await text(STATE);
  assert.doesNotMatch(state, /oci0|10\.90/);
});
// a test that fails half-way leaves no container to the next
afterEach(async () => {
  await endContainers(machine);
  await assertAsBefore();
});

test('nginx: read-only, without capabilities, on a published port; restarts with its address, and leaves nothing', async () => {
  await text('mkdir -p /srv/net; oci-pull -q 127.0.0.1:5000/nginx >/dev/null');
  await text(`cat >/srv/net/nginx.conf <<'CONF'
error_log stderr notice;
pid /tmp/nginx.pid;
events {}
http { access_log off; client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e; server { listen 80; listen [::]:80; root /srv/www; } }
CONF`);
  await started(
    ...['--unit', 'web', '-p', '8080:80', '--read-only', '--cap-drop', 'all', '-p', 'MemoryHigh=1G'],
    ...['-v', '/srv/net/nginx.conf:/etc/nginx/nginx.conf:ro', NGINX],
  );
  const page = () => text('curl -sS --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/');
  assert.match(await page(), /It works/);
  const address = await text('ls /run/oci/network/ipam/oci0');
  assert.match(address, /^10\.90\.0\.\d+$/);
  assert.match(await text(`curl -sS http://${address}/`), /It works/);
  assert.match(await text('curl -sS http://10.90.0.1:8080/'), /It works/);
  assert.match(await text("curl -sS 'http://[fd90::1]:8080/'"), /It works/);
  const [listed] = JSON.parse(await text('ocictl --json ps'));
  assert.equal(listed.addresses[0], address);
  assert.deepEqual(listed.ports, [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', count: 1 }]);
  assert.match(await text('ocictl ps'), / 8080->80\/tcp /);
  const { MainPID } = await unitProperties(machine, 'web', 'MainPID');

  await text('systemctl restart web');
  assert.match(await page(), /It works/);
  assert.equal(await text('ls /run/oci/network/ipam/oci0'), address);
  assert.notEqual((await unitProperties(machine, 'web', 'MainPID'))['MainPID'], MainPID);
  await stop('web');
});

test('two containers reach each other by address, unit and host name; another network is out of reach', async () => {
  await text(`mkdir -p /etc/oci; printf '[network.db]\\nsubnet = 10.91.0.0/24\\n' >/etc/oci/oci.conf`);
  await started('--unit', 'one', '--ip', '10.90.0.77', BUSYBOX, 'sh', '-c', serve(80, 'one'));
  await started(
    '--unit',
    'two',
    '--hostname',
    'second',
    '--add-host',
    'host:host-gateway',
    BUSYBOX,
    ...SLEEP,
  );
  stdoutOf(await run('--unit', 'far', '--network', 'bridge:db', BUSYBOX, ...SLEEP));
  try {
    assert.equal(stdoutOf(await inside('two', fetched('wget -qO-', 'http://10.90.0.77/'))), 'one\n');
    assert.equal(stdoutOf(await inside('two', 'wget -qO- http://[fd90::4d]/')), 'one\n');
    assert.equal(stdoutOf(await inside('two', 'wget -qO- http://one/')), 'one\n');
    assert.match(stdoutOf(await inside('one', 'nslookup second')), /10\.90\.0\.\d+/);
    const own = stdoutOf(
      await inside('two', 'grep -w second /etc/hosts; hostname; ping -c1 -W1 host 2>/dev/null || true'),
    ).split('\n');
    assert.match(own[0]!, /^10\.90\.0\.\d+ second$/);
    assert.match(own[1]!, /^fd90::[0-9a-f]+ second$/);
    assert.equal(own[2], 'second');
    assert.match(own[3]!, /^PING host \(10\.90\.0\.1\)/);
    assert.match(stdoutOf(await inside('far', 'ip -o -4 addr show eth0')), / 10\.91\.0\.2\/24 /);
    assert.notEqual((await inside('far', 'wget -T2 -qO- http://10.90.0.77/')).status, 0);
    const taken = await run('--unit', 'three', '--network', 'bridge', '--ip', '10.90.0.77', BUSYBOX, 'true');
    assert.equal(taken.status, 69);
    assert.match(taken.stderr, /address 10\.90\.0\.77 is in use by one/);
    const outside = await run('--network', 'bridge', '--ip', '10.90.1.7', BUSYBOX, 'true');
    assert.equal(outside.status, 64);
    assert.match(outside.stderr, /from 10\.90\.0\.2 to 10\.90\.0\.254/);
  } finally {
    await stop('one', 'two', 'far');
    await text('rm /etc/oci/oci.conf');
  }
});

test('six at once have six addresses', async () => {
  const units = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'];
  await Promise.all(units.map((unit) => started('--unit', unit, BUSYBOX, ...SLEEP)));
  const shown = await Promise.all(
    units.map(async (unit) => stdoutOf(await inside(unit, 'ip -o -4 addr show eth0'))),
  );
  const addresses = shown.map((line) => / inet (\S+)\/24 /.exec(line)?.[1]);
  assert.equal(new Set(addresses).size, 6);
  assert.deepEqual((await text('ls /run/oci/network/ipam/oci0')).split('\n').sort(), addresses.sort());
  await stop(...units);
});

test('UDP, ranges, one address of the host, and its own published port', async () => {
  const echo = `$SIG{TERM} = sub { exit };
    my $udp = IO::Socket::INET->new(Proto => 'udp', LocalPort => 5353);
    my $tcp = IO::Socket::INET->new(Listen => 5, LocalPort => 7001);
    if (fork) { while ($udp->recv(my $line, 100)) { $udp->send($line) } }
    while (my $client = $tcp->accept) { print $client scalar <$client> }`;
  const ports = ['-p', '5353:5353/udp', '--publish', '127.0.0.1:7000-7001:7000-7001'];
  await started('--unit', 'udp', ...ports, FEDORA, 'perl', '-MIO::Socket', '-e', echo);
  const ask = (kind: string, address: string, port: number) =>
    machine.run([
      'bash',
      '-c',
      `for i in $(seq 60); do sleep 0.3
      exec 3<>/dev/${kind}/${address}/${port} && echo ${kind} >&3 && timeout 1 head -n1 <&3 | grep . && exit
      done 2>/dev/null; exit 1`,
    ]);
  assert.equal(stdoutOf(await ask('udp', '127.0.0.1', 5353)), 'udp\n');
  assert.equal(stdoutOf(await ask('tcp', '127.0.0.1', 7001)), 'tcp\n');
  const closed = 'exec 3<>/dev/tcp/10.90.0.1/7001';
  assert.notEqual((await machine.run(['bash', '-c', closed])).status, 0);
  await stop('udp');

  await started('--unit', 'hairpin', '-p', '8081:80', BUSYBOX, 'sh', '-c', serve(80, 'mirror'));
  assert.equal(
    stdoutOf(await inside('hairpin', fetched('wget -T5 -qO-', 'http://10.90.0.1:8081/'))),
    'mirror\n',
  );
  await stop('hairpin');
});

test('0.0.0.0 and [::] are the addresses of one family; two containers can have a port of one each', async () => {
  const web = (word: string, port: number) => [BUSYBOX, 'sh', '-c', serve(port, word)];
  await started('--unit', 'four', '-p', '0.0.0.0:8095:80', '-p', '0.0.0.0:8096:80', ...web('four', 80));
  await started('--unit', 'six', '-p', '[::]:8095:81', ...web('six', 81));
  assert.equal(await text(fetched('curl -fsS', 'http://10.90.0.1:8095/')), 'four');
  assert.equal(await text(fetched('curl -gfsS', 'http://[fd90::1]:8095/')), 'six');
  assert.equal(await text(fetched('curl -fsS', 'http://127.0.0.1:8096/')), 'four');
  const closed = await machine.script('curl -gfsS --max-time 60 http://[fd90::1]:8096/');
  assert.equal(closed.status, 7); // nobody there
  assert.equal(
    await text('ocictl port four; ocictl port six'),
    ['80/tcp -> 0.0.0.0:8095', '80/tcp -> 0.0.0.0:8096', '81/tcp -> [::]:8095'].join('\n'),
  );
  for (const [port, who] of [
    ['8095', 'four'],
    ['127.0.0.1:8095', 'four'],
    ['[fd90::1]:8095', 'six'],
  ]) {
    const refused = await run('-p', `${port}:80`, BUSYBOX, 'true');
    assert.equal(refused.status, 69, port);
    assert.match(refused.stderr, new RegExp(`port 8095/tcp is published by ${who} already`));
  }
  await stop('four', 'six');
});

test('a port of the host that is not named is a free one, which ps and port tell', async () => {
  await started(
    '--unit',
    'any',
    '-p',
    '80',
    '-p',
    '127.0.0.1::81-82/udp',
    BUSYBOX,
    'sh',
    '-c',
    serve(80, 'any'),
  );
  const [web, ...udp] = (await text('ocictl port any')).split('\n');
  const [, first = ''] = /^80\/tcp -> 0\.0\.0\.0:(\d{5})$/.exec(web!) ?? [];
  assert.equal(await text(fetched('curl -fsS', `http://127.0.0.1:${first}/`)), 'any');
  const number = Number(/:(\d{5})$/.exec(udp[0]!)?.[1]);
  assert.deepEqual(udp, [`81/udp -> 127.0.0.1:${number}`, `82/udp -> 127.0.0.1:${number + 1}`]);
  assert.equal(await text('ocictl port any 82/udp'), `127.0.0.1:${number + 1}`);
  assert.match(
    await text('ocictl ps'),
    new RegExp(` ${first}->80/tcp, 127\\.0\\.0\\.1:${number}-${number + 1}->81-82/udp `),
  );
  const missing = await machine.run(['ocictl', 'port', 'any', '81']);
  assert.deepEqual(missing, {
    ...{ status: 66, stdout: '' },
    stderr: "ocictl: container 'any' publishes no port '81/tcp'\nhint: List them with: ocictl port any.\n",
  });
  await stop('any');
});

test('a port that is in use is refused, whoever has it, and the container that has it serves on', async () => {
  await text(
    `systemd-run -q --unit listener perl -MIO::Socket -e 'my $s = IO::Socket::INET->new(Listen => 1, LocalPort => 8090); sleep 99'
    until ss -Hltn sport = :8090 | grep -q LISTEN; do sleep 0.05; done`,
  );
  const refused = await run('--unit', 'late', '-p', '8089-8091:80-82', BUSYBOX, 'true');
  await text('systemctl stop listener');
  assert.equal(refused.status, 69);
  assert.match(refused.stderr, /one of the ports 8089-8091\/tcp is in use on the host/);
  await assertAsBefore();

  await started('--unit', 'first', '-p', '127.0.0.1:8090:80', BUSYBOX, 'sh', '-c', serve(80, 'first'));
  const second = await run('--unit', 'second', '-p', '8090:80', BUSYBOX, 'true');
  assert.equal(second.status, 69);
  assert.match(second.stderr, /port 8090\/tcp is published by first/);
  assert.equal(await text(fetched('curl -fsS', 'http://127.0.0.1:8090/')), 'first');
  await stop('first');
});

test('a payload that is killed, and a setup that fails half-way, leave nothing', async () => {
  await started('--unit', 'crash', '-p', '8092:80', BUSYBOX, ...SLEEP);
  await text('systemctl kill --signal=KILL crash');
  await assertAsBefore();

  await started(
    '--unit',
    'again',
    '--restart',
    'on-failure:1',
    '-p',
    '8092:80',
    BUSYBOX,
    'sh',
    '-c',
    serve(80, 'again'),
  );
  const address = await text('ls /run/oci/network/ipam/oci0');
  await text(
    'systemctl kill --signal=KILL again; until [ $(systemctl show -P NRestarts again) = 1 ]; do sleep 0.05; done',
  );
  assert.equal(await text(fetched('curl -fsS', 'http://127.0.0.1:8092/')), 'again');
  assert.equal(await text('ls /run/oci/network/ipam/oci0'), address);
  await stop('again');
  await assertAsBefore();

  // after the network: this file system cannot be mounted
  const failed = await run(
    '--unit',
    'half',
    '-p',
    '8092:80',
    '--sysctl',
    'net.ipv4.conf.eth9.forwarding=1',
    BUSYBOX,
    'true',
  );
  assert.equal(failed.status, 69);
  await assertAsBefore();

  // somebody else's bridge stays
  await text('ip link add oci0 type bridge');
  const foreign = await run('--unit', 'foreign', '-p', '8092:80', BUSYBOX, 'true');
  assert.match(foreign.stderr, /interface oci0 exists and belongs to no container/);
  await assertNothingLeft(machine);
  await text('ip link delete oci0');
  await assertAsBefore();

  // the namespace is gone when the rules are to be removed
  await started('--unit', 'lost', '-p', '8092:80', BUSYBOX, ...SLEEP);
  await text('umount -l /run/oci/containers/lost/mnt/netns');
  await stop('lost');
});

test('resolv.conf: what is given, else what the host can hand on', async () => {
  const resolver = async (...args: string[]) => {
    const { stdout } = await run('--pipe', ...args, BUSYBOX, 'cat', '/etc/resolv.conf');
    return stdout.trim().split('\n');
  };
  const given = [
    '--dns',
    '10.9.8.7',
    '--dns-search',
    'a.example',
    '--dns-search',
    'b.example',
    '--dns-option',
    'ndots:3',
  ];
  assert.deepEqual(await resolver(...given), [
    'nameserver 10.9.8.7',
    'search a.example b.example',
    'options ndots:3',
  ]);
  assert.deepEqual(await resolver('--network', 'bridge', ...given), [
    'nameserver 10.90.0.1',
    'search a.example b.example',
    'options ndots:3',
  ]);
  assert.deepEqual(await resolver(), ['']);
  await text(`cp /etc/resolv.conf /run/resolv.saved
printf 'nameserver 127.0.0.53\\noptions edns0\\nsearch lan\\n' >/etc/resolv.conf
mkdir -p /run/systemd/resolve; printf 'nameserver 10.1.1.1\\nnameserver 127.0.0.1\\nsearch lan\\n' >/run/systemd/resolve/resolv.conf
printf '[network]\\ndns = false\\n' >/run/no-dns.conf; ip netns add given`);
  try {
    assert.deepEqual(await resolver('--network', 'host'), [
      'nameserver 127.0.0.53',
      'options edns0',
      'search lan',
    ]);
    assert.deepEqual(await resolver('--network', 'bridge', '--config', '/run/no-dns.conf'), [
      'nameserver 10.1.1.1',
      'search lan',
    ]);
    assert.deepEqual(await resolver('--network', 'ns:/run/netns/given', '--dns-search', '.'), [
      'nameserver 10.1.1.1',
    ]);
  } finally {
    await text(`cp /run/resolv.saved /etc/resolv.conf; ip netns del given; umount /run/netns; rmdir /run/netns
rm -r /run/resolv.saved /run/no-dns.conf /run/systemd/resolve`);
  }
});

test('a joined network: all ports and ping, another range; it ends with the container that has it', async () => {
  await text('systemctl reset-failed; ip netns add given; ip netns exec given ip link set lo up');
  const probe = `socket(my $ping, AF_INET, SOCK_DGRAM, 1) or die "ping: $!";
    my $port = IO::Socket::INET->new(Listen => 1, LocalPort => 81) or die "port: $!";
    print "ok\\n"; $SIG{TERM} = sub { exit }; sleep 1000 if @ARGV`;
  const perl = [FEDORA, 'perl', '-MIO::Socket', '-e', probe];
  try {
    const given = await run(
      '--pipe',
      '--network',
      'ns:/run/netns/given',
      '--user',
      '1000:1000',
      '--cap-drop',
      'all',
      ...perl,
    );
    assert.equal(given.stdout, 'ok\n', given.stderr);
  } finally {
    await text('ip netns del given; umount /run/netns; rmdir /run/netns');
  }
  await started('--unit', 'pod', '-p', '8093:81', BUSYBOX, ...SLEEP);
  const joined = ['--network', 'container=pod', '--user', '1000:1000', '--cap-drop', 'all'];
  stdoutOf(await run('--unit', 'member', '--hostname', 'other', ...joined, ...perl, 'stay'));
  const namespace = (unit: string, name: string) =>
    text(`readlink /proc/$(systemctl show -P MainPID ${unit})/ns/${name}`);
  assert.equal(await namespace('member', 'net'), await namespace('pod', 'net'));
  assert.notEqual(await namespace('member', 'user'), await namespace('pod', 'user'));
  assert.equal(
    (
      await machine.run([
        'bash',
        '-c',
        'for i in $(seq 150); do : </dev/tcp/127.0.0.1/8093 && exit; sleep 0.2; done; exit 1',
      ])
    ).status,
    0,
  );
  const files = stdoutOf(await inside('member', 'cat /etc/hosts /etc/resolv.conf; hostname'));
  assert.match(files, /^10\.90\.0\.\d+ pod$.*^127\.0\.1\.1 other$.*^nameserver 10\.90\.0\.1$.*^other$/ms);
  await text('systemctl restart pod');
  assert.equal(await text('systemctl is-active member'), 'active');
  await stop('pod');
  await assertAsBefore();

  assert.equal((await run('--network', 'container=pod', BUSYBOX, 'true')).status, 66);
  stdoutOf(await run('--unit', 'bare', '--network', 'host', BUSYBOX, ...SLEEP));
  const none = await run('--network', 'container=bare', BUSYBOX, 'true');
  assert.match(none.stderr, /'bare' has no network of its own\nhint: Use --network host/);
  await stop('bare');
  assert.match(
    (await run('--network', 'ns:/proc/1/ns/net', BUSYBOX, 'true')).stderr,
    /the host's own namespace/,
  );
});

test('--socket: the first connection starts the payload, which takes it over; restart and stop', async () => {
  const answer = `die "pid $$ $ENV{LISTEN_PID}" unless $$ == $ENV{LISTEN_PID} and $ENV{LISTEN_FDS} == 2;
    $SIG{TERM} = sub { exit }; my $socket = IO::Socket::INET->new_from_fd(3, 'r+');
    while (my $client = $socket->accept) { print $client "served by $$\\n"; close $client; exit if !-e '/stay' }`;
  const out = stdoutOf(
    await run(
      '--unit',
      'lazy',
      '--socket',
      '127.0.0.1:8094',
      '--socket',
      '/run/lazy.sock',
      FEDORA,
      'perl',
      '-MIO::Socket',
      '-e',
      answer,
    ),
  );
  assert.equal(out, 'lazy.service\n');
  assert.equal((await unitProperties(machine, 'lazy', 'ActiveState'))['ActiveState'], 'inactive');
  const get = () => text('bash -c "timeout 60 cat </dev/tcp/127.0.0.1/8094"');
  assert.equal(await get(), 'served by 1');
  // it has ended, and starts once more
  assert.equal(await get(), 'served by 1');
  await stop('lazy.socket');
  await assertAsBefore();

  const taken = await run('--unit', 'taken', '--socket', '127.0.0.1:5000', BUSYBOX, 'true');
  assert.equal(taken.status, 69);
  assert.match(taken.stderr, /'taken\.socket' failed to start: systemd cannot listen there/);
});

test('--notify: the start is over when the payload says so, also by a child; its words are in the status', async () => {
  const say = (words: string) =>
    `use IO::Socket::UNIX; IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET})->send("${words}")`;
  const payload = `$SIG{TERM} = sub { exit }; sleep 1; if (!fork) { ${say('READY=1\\nSTATUS=all is well')}; sleep 1; exit } sleep 1000`;
  const begin = Date.now();
  stdoutOf(await run('--unit', 'ready', '--notify', FEDORA, 'perl', '-e', payload));
  assert.ok(Date.now() - begin > 1000, 'the start waited');
  const { Type, StatusText, ActiveState } = await unitProperties(
    machine,
    'ready',
    'Type',
    'StatusText',
    'ActiveState',
  );
  assert.deepEqual([Type, StatusText, ActiveState], ['notify', 'all is well', 'active']);
  await stop('ready');
  await assertAsBefore();

  const silent = await run(
    '--unit',
    'quiet',
    '--notify',
    '--read-only',
    FEDORA,
    'perl',
    '-e',
    say('STATUS=going'),
  );
  assert.equal(silent.status, 69);
  assert.match(silent.stderr, /'quiet\.service' failed to start: the payload ended and did not say/);
});
