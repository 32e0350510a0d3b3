
/* The page of the local server: the same front end over a WebSocket.
   A frame is the length of a JSON object (uint32), the object, and its buffers. */

const address = new URL("socket", location.href);
address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
address.search = location.search;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const listeners = [];
const waiting = [];
let socket;

function connect() {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    while (waiting.length) socket.send(waiting.shift());
  };
  socket.onmessage = (event) => {
    const [body, buffers] = unpacked(event.data);
    for (const listener of listeners) listener(body, buffers);
  };
  socket.onclose = () => {
    for (const listener of listeners) listener({ kind: "lost" }, []);
  };
}

function packed(body, buffers) {
  const sizes = buffers.map((buffer) => buffer.byteLength);
  const head = encoder.encode(JSON.stringify({ ...body, sizes }));
  const frame = new Uint8Array(4 + head.length + sizes.reduce((sum, size) => sum + size, 0));
  new DataView(frame.buffer).setUint32(0, head.length, true);
  frame.set(head, 4);
  let start = 4 + head.length;
  for (const buffer of buffers) {
    frame.set(new Uint8Array(buffer), start);
    start += buffer.byteLength;
  }
  return frame;
}

function unpacked(frame) {
  const length = new DataView(frame).getUint32(0, true);
  const body = JSON.parse(decoder.decode(new Uint8Array(frame, 4, length)));
  const buffers = [];
  let start = 4 + length;
  for (const size of body.sizes) {
    buffers.push(new DataView(frame, start, size));
    start += size;
  }
  return [body, buffers];
}

const main = document.getElementById("explorer");
const values = {
  stylesheet: [...document.querySelectorAll("style")].map((one) => one.textContent).join("\n"),
  atlas_address: main.dataset.atlas,
};
const model = {
  get: (name) => values[name],
  set: () => {},
  save_changes: () => {},
  on: (event, listener) => {
    if (event === "msg:custom") listeners.push(listener);
  },
  send: (body, _callbacks, buffers = []) => {
    const frame = packed(body, buffers);
    if (socket.readyState === WebSocket.OPEN) socket.send(frame);
    else waiting.push(frame);
  },
};

connect();
render({ model, el: main });
