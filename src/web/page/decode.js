// Decodes pictures, at the size of their tiles if they are smaller.

// Decodes a JPEG file. `size` is [width, height], or null for the picture's own. Returns the image to draw, which the caller closes,
// and its width and height.
export async function decode(bytes, size) {
  const type = "image/jpeg";
  // Only pages on https and localhost have it. It needs no Blob, which goes to the browser's process and back, and it decodes at
  // half or a quarter of the size in less time.
  if (globalThis.ImageDecoder) {
    const wanted = size ? { desiredWidth: size[0], desiredHeight: size[1] } : {};
    const decoder = new ImageDecoder({ type, data: bytes, ...wanted });
    try {
      const { image } = await decoder.decode();
      return { image, width: image.displayWidth, height: image.displayHeight };
    } finally {
      decoder.close();
    }
  }
  const wanted = size ? { resizeWidth: size[0], resizeHeight: size[1] } : {};
  const image = await createImageBitmap(new Blob([bytes], { type }), wanted);
  return { image, width: image.width, height: image.height };
}
