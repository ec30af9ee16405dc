/** Bytes on the disk: of each image what it alone has and what it shares, and of the whole store. */
import { lstatSync } from 'node:fs';
import { basename, join } from 'node:path';
import { listDirectory } from '../host/files.ts';
import { type Digest, digestHex, digestOfHex } from '../oci/digest.ts';
import { composefsImages, listObjects, objectsOfStream } from './composefs-garbage.ts';
import { BLOCK_BYTES, usageCounter } from './disk-usage.ts';
import { listLinks } from './image-links.ts';
import { linkedLayerHexes, listImageHexes } from './images.ts';
import { listLayerHexes } from './layers.ts';
import { imagePath, type Layout } from './layout.ts';
import { listStreams } from './streams.ts';

export interface ImageUsage {
  readonly digest: Digest;
  readonly names: readonly string[];
  /** Of layers that other images of the store have, too. */
  readonly sharedBytes: number;
  /** Of everything that would go with the image. */
  readonly uniqueBytes: number;
  readonly totalBytes: number;
}

export interface StoreUsage {
  readonly images: readonly ImageUsage[];
  /** Of all layers, also of those that no image has. */
  readonly layersBytes: number;
  /** Of layers that no image has: `ocictl gc` removes them. */
  readonly unusedBytes: number;
  readonly stagingBytes: number;
  /** What running containers have written. */
  readonly writableBytes: number;
  /** Of the whole store: what `du` says of its root. */
  readonly totalBytes: number;
}

/** `only`: the images to list; all others count for what is shared, too. */
export function storeUsage(layout: Layout, only?: readonly Digest[]): StoreUsage {
  const counter = usageCounter();
  const add = (directory: string) =>
    new Map(listDirectory(directory).map((name) => [name, counter.add(join(directory, name))]));
  const layerBytes = add(layout.layers);
  const imageBytes = add(layout.images);
  const stagingBytes = sum(add(layout.staging).values());
  const writableBytes = sum(add(layout.writable).values());
  const composefs = composefsParts(layout);
  const treesBytes = sum(layerBytes.values());
  const parts = usageCounter(); // the directories they are in count below
  for (const part of composefs.parts) layerBytes.set(part, parts.add(join(layout.root, part)));
  const walked = [layout.layers, layout.images, layout.staging, layout.writable];
  const others = listDirectory(layout.root)
    .map((name) => join(layout.root, name))
    .filter((path) => !walked.includes(path));

  const layersOf = new Map(
    listImageHexes(layout).map((hex) => [
      hex,
      composefs.ofImage.get(hex) ?? [...new Set(linkedLayerHexes(layout, hex))],
    ]),
  );
  const users = new Map<string, number>();
  for (const layer of [...layersOf.values()].flat()) users.set(layer, (users.get(layer) ?? 0) + 1);
  const bytesOf = (layers: readonly string[]) => sum(layers.map((layer) => layerBytes.get(layer) ?? 0));

  const tags = [...listLinks(layout, 'tags')];
  const wanted = only === undefined ? undefined : new Set(only.map(digestHex));
  const images = [...layersOf]
    .filter(([hex]) => wanted === undefined || wanted.has(hex))
    .map(([hex, layers]): ImageUsage => {
      const sharedBytes = bytesOf(layers.filter((layer) => users.get(layer)! > 1));
      const uniqueBytes =
        bytesOf(layers.filter((layer) => users.get(layer) === 1)) +
        (imageBytes.get(basename(imagePath(layout, hex))) ?? 0);
      const names = tags.filter(([, tagged]) => tagged === hex).map(([name]) => name);
      const totalBytes = sharedBytes + uniqueBytes;
      return { digest: digestOfHex(hex), names, sharedBytes, uniqueBytes, totalBytes };
    })
    .sort((a, b) => b.totalBytes - a.totalBytes);

  return {
    images,
    layersBytes: sum(layerBytes.values()),
    unusedBytes: bytesOf([...listLayerHexes(layout), ...composefs.parts].filter((part) => !users.has(part))),
    stagingBytes,
    writableBytes,
    totalBytes:
      sum([treesBytes, ...imageBytes.values(), stagingBytes, writableBytes]) +
      sum(others.map((path) => counter.add(path))) +
      sum([layout.root, ...walked].map(ownBytes)),
  };
}

/** Streams and objects, by their paths in the store: all, and those of each image. Damaged ones have none. */
function composefsParts(layout: Layout): { parts: string[]; ofImage: Map<string, string[]> } {
  const streamPart = (hex: string) => `streams/${hex}`;
  const objectPart = (hex: string) => `objects/${hex.slice(0, 2)}/${hex.slice(2)}`;
  const parts = [...listStreams(layout).map(streamPart), ...[...listObjects(layout)].map(objectPart)];
  const ofImage = new Map<string, string[]>();
  if (parts.length === 0) return { parts, ofImage };
  const ofStream = new Map<string, string[]>();
  const read = (hex: string) => {
    const known = ofStream.get(hex) ?? [streamPart(hex), ...objectsOf(hex).map(objectPart)];
    ofStream.set(hex, known);
    return known;
  };
  const objectsOf = (hex: string) => {
    try {
      return [...objectsOfStream(layout, hex)];
    } catch {
      return [];
    }
  };
  for (const [hex, names] of composefsImages(layout)) ofImage.set(hex, [...new Set(names.flatMap(read))]);
  return { parts, ofImage };
}

/** Of a directory itself, without what is in it. */
function ownBytes(path: string): number {
  return (lstatSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * BLOCK_BYTES;
}

function sum(numbers: Iterable<number>): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
