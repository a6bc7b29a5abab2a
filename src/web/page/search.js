// Finds stations: by number, by name, and by what is on.

// Letters without accents, in small.
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

// The stations that `query` finds, in their order; all if it is empty. Digits find a number that begins with them; words find a station
// whose name or film has them all, each at the beginning of a word.
export function find(stations, query) {
  const words = plain(query).split(/\s+/).filter(Boolean);
  if (words.length === 0) return stations;
  return stations.filter(({ id, name, now }) => {
    const text = ` ${plain(name)} ${plain(now?.title ?? "")}`.replace(/[^\p{L}\p{N}]+/gu, " ");
    return words.every((word) => String(id).startsWith(word) || text.includes(` ${word}`));
  });
}
