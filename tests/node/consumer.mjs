// Takes messages from a destination and acknowledges them, and prints a JSON line for each thing that happens.
//
//   make descriptor && cd tests/node && npm ci
//   node consumer.mjs 127.0.0.1:50051 default ../../out/aicc-mo-v1.binpb
//
// What every consumer needs is here, in any language: credits, acks together, answers that are read, keepalive,
// subscribing again when the stream ends, and an end in order on SIGTERM.

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const CHANNEL_OPTIONS = {
  // A stream may be silent for hours: notice a service, or a firewall, that is gone without a word.
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_reconnect_backoff_ms': LONGEST_PAUSE_MS,
};

const [address, destination, descriptor] = process.argv.slice(2);
if (!descriptor) {
  console.error('usage: node consumer.mjs HOST:PORT DESTINATION DESCRIPTOR_SET');
  process.exit(2);
}

const contract = loadFileDescriptorSetFromBuffer(readFileSync(descriptor), {
  keepCase: true, longs: String, enums: String, defaults: true,
});
const { MessageFeed } = grpc.loadPackageDefinition(contract).aicc.mo.v1;
const feed = new MessageFeed(address, grpc.credentials.createInsecure(), CHANNEL_OPTIONS);
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
process.once('SIGINT', () => stop.abort());

const print = (event, facts) => console.log(JSON.stringify({ event, ...facts }));

// A message comes at least once. A real consumer keeps what it has done where it keeps the result, not in memory.
const done = new Set();

async function handle({ message, delivery_attempt, sequence, replayed }) {
  const key = `${message.channel_config_id}/${message.message_sid}`;
  const is_repeat = done.has(key) && !replayed;
  done.add(key);
  print('delivered', { message_sid: message.message_sid, delivery_attempt, sequence, is_repeat });
}

// Subscribes once; returns when the stream has ended in order, throws when it has not.
async function consume(onAnswer) {
  const stream = feed.Subscribe();
  let isBusy = false;
  // What was sent before is still settled and answered; what we haven't acknowledged goes back, uncounted.
  const endInOrder = () => { if (!isBusy) stream.end(); };
  stop.signal.addEventListener('abort', endInOrder);
  try {
    stream.write({ destination, max_outstanding_messages: 100 });
    // Reading one response after the other is what tells the service how much we can take.
    for await (const { deliveries, ack_results } of stream) {
      onAnswer();
      for (const { ack_id, status } of ack_results) print('settled', { ack_id, status });
      if (stop.signal.aborted || !deliveries.length) continue;
      isBusy = true;
      for (const delivery of deliveries) await handle(delivery);
      stream.write({ ack_ids: deliveries.map(({ ack_id }) => ack_id) }); // together: each request costs
      isBusy = false;
      if (stop.signal.aborted) endInOrder();
    }
  } finally {
    stop.signal.removeEventListener('abort', endInOrder);
    stream.cancel();
  }
}

let pauseMs = FIRST_PAUSE_MS;
while (!stop.signal.aborted) {
  try {
    await consume(() => { pauseMs = FIRST_PAUSE_MS; });
  } catch (error) {
    // Our own faults, and what will never be right, are not tried again.
    if (error.code === undefined || error.code === grpc.status.INVALID_ARGUMENT) throw error;
    print('disconnected', { code: grpc.status[error.code], details: error.details });
  }
  if (!stop.signal.aborted) {
    // Longer each time, and by chance: a service that comes back isn't overrun.
    await sleep(pauseMs * (0.5 + Math.random() / 2), undefined, { signal: stop.signal }).catch(() => {});
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }
}
feed.close();
print('stopped', {});
