/** Groups of horizontal bars as an SVG image that is readable on light and dark pages. */

export interface Bar {
  readonly group: string;
  readonly label: string;
  readonly value: number;
}

const BAR = 18;
const GAP = 14;
const LEFT = 130;
const WIDTH = 720;
const COLOURS = ['#0969da', '#8250df', '#bf8700', '#1a7f37', '#cf222e', '#57606a'];

/** Every group has its own scale, so that small ones can be read beside large ones. */
export function barChart(title: string, unit: string, bars: readonly Bar[]): string {
  const groups = Map.groupBy(bars, ({ group }) => group);
  const labels = [...new Set(bars.map(({ label }) => label))];
  const parts: string[] = [];
  let y = 30;
  for (const [group, members] of groups) {
    parts.push(text(4, y + BAR - 5, group, 'bold'));
    y += BAR;
    const largest = Math.max(...members.map(({ value }) => value));
    for (const { label, value } of members) {
      const width = Math.max(1, (value / largest) * (WIDTH - LEFT - 70));
      const colour = COLOURS[labels.indexOf(label) % COLOURS.length];
      parts.push(
        text(16, y + BAR - 5, label),
        `<rect x="${LEFT}" y="${y + 2}" width="${width.toFixed(1)}" height="${BAR - 4}" fill="${colour}"/>`,
        text(LEFT + width + 6, y + BAR - 5, `${value.toFixed(2)} ${unit}`),
      );
      y += BAR;
    }
    y += GAP;
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${y}" fill="white"/>`,
    text(4, 18, title, 'bold'),
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function text(x: number, y: number, content: string, weight = 'normal'): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  return `<text x="${x.toFixed(1)}" y="${y}" font-weight="${weight}">${escaped}</text>`;
}
