// kafkajs behind the line protocol of ../README.md.
//
// Its public API reads only through consumer groups; reading here goes through its own broker
// connections (`broker.fetch`), which send the same requests and decode the same batches.

'use strict'

const { createHash } = require('node:crypto')
const { createReadStream } = require('node:fs')
const readline = require('node:readline')
const { setTimeout: sleep } = require('node:timers/promises')
const kafkajs = require('kafkajs')

const { CompressionTypes, CompressionCodecs, ConfigResourceTypes, Kafka, logLevel } = kafkajs

const BOOTSTRAP = process.argv[2].split(',')
const SECONDS_MAX = 30 // of any single request
const PATIENCE_MS = 100_000 // for a topic to be created while nodes are away
const LINES = 210
const SEND_BYTES_MAX = 500_000 // of one batch, unless one record is larger
const SEND_RECORDS_MAX = 5_000

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

// kafkajs ships only gzip; the other codecs are plug-ins over packages from npm.
async function addCodecs() {
  CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
  const lz4 = require('lz4-napi')
  CompressionCodecs[CompressionTypes.LZ4] = () => ({
    compress: encoder => lz4.compressFrame(encoder.buffer),
    decompress: buffer => lz4.decompressFrame(buffer),
  })
  const zstd = require('@bokuweb/zstd-wasm')
  const fzstd = require('fzstd')
  await zstd.init()
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(zstd.compress(encoder.buffer, 3)),
    decompress: async buffer => Buffer.from(fzstd.decompress(buffer)),
  })
}

const kafka = client(3)
const patientKafka = client(12) // while nodes are away

function client(retries) {
  const retry = { retries, maxRetryTime: 5_000 }
  return new Kafka({ clientId: 'interop', brokers: BOOTSTRAP, logLevel: logLevel.NOTHING, retry })
}

// One admin client a request: it asks for the metadata of every topic it ever met, and fails when
// one of them is gone.
let sharedAdmin
async function admin() {
  if (!sharedAdmin) {
    sharedAdmin = kafka.admin()
    await sharedAdmin.connect()
  }
  return sharedAdmin
}

async function dropAdmin() {
  const dropped = sharedAdmin
  sharedAdmin = undefined
  if (dropped) await dropped.disconnect()
}

async function withProducer(settings, action, connect = connectOnce) {
  const producer = await connect({
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    ...settings,
  })
  try {
    return await action(producer)
  } finally {
    await producer.disconnect()
  }
}

async function connectOnce(settings, by = kafka) {
  const producer = by.producer(settings)
  await producer.connect()
  return producer
}

// While nodes are away: kafkajs asks once for a producer id, whatever happens to that node.
async function connectPatiently(settings) {
  const begun = Date.now()
  for (;;) {
    try {
      return await connectOnce(settings, patientKafka)
    } catch (problem) {
      if (!mayPass(problem) || Date.now() - begun > PATIENCE_MS) throw problem
      await sleep(200)
    }
  }
}

// Whether a request may be answered otherwise a little later.
function mayPass(problem) {
  const inner = innermost(problem)
  return (
    problem.retriable ||
    inner.retriable ||
    /Connection|Timeout|NumberOfRetriesExceeded|BrokerNotFound|Closed/.test(`${problem.name} ${inner.name}`)
  )
}

// Reading

// A cluster object as kafkajs' consumer makes one; its factory hides behind a symbol.
async function withCluster(action) {
  const symbol = Object.getOwnPropertySymbols(kafka).find(s => String(s).includes('createCluster'))
  const cluster = kafka[symbol]({ metadataMaxAge: 300_000, allowAutoTopicCreation: false })
  await cluster.connect()
  try {
    return await action(cluster)
  } finally {
    await cluster.disconnect()
  }
}

async function* fetchFrom(cluster, topic, start, end, partition = 0, replica = {}) {
  await cluster.addTargetTopic(topic)
  const leaders = cluster.findLeaderForPartitions(topic, [partition])
  const broker = await cluster.findBroker({ nodeId: replica.nodeId || Object.keys(leaders)[0] })
  const deadline = Date.now() + 300_000
  for (let next = start; next < end; ) {
    if (Date.now() > deadline) throw new Error(`read up to offset ${next} of ${end}`)
    const asking = broker.fetch({
      replicaId: -1,
      isolationLevel: 0,
      maxWaitTime: 1_000,
      minBytes: 1,
      maxBytes: 8 << 20,
      rackId: replica.rackId || '',
      topics: [{ topic, partitions: [{ partition, fetchOffset: String(next), maxBytes: 4 << 20 }] }],
    })
    const { responses } = await asking.catch(async problem => {
      // A replica that knows of no leader just then.
      if (!replica.nodeId || !mayPass(problem)) throw problem
      await sleep(50)
      return { responses: [{ partitions: [{ messages: [] }] }] }
    })
    for (const message of responses[0].partitions[0].messages) {
      const offset = Number(message.offset)
      if (offset < next) continue // the batch began before the offset asked for
      if (offset !== next) throw new Error(`offset ${offset} came where ${next} was due`)
      if (offset === end) break
      yield message
      next++
    }
  }
}

// Asked again when the leader moves just then.
async function offsetsOf(topic) {
  const begun = Date.now()
  for (;;) {
    try {
      return await (await admin()).fetchTopicOffsets(topic)
    } catch (problem) {
      if (!mayPass(problem) || Date.now() - begun > SECONDS_MAX * 1_000) throw problem
      await sleep(50)
    }
  }
}

async function readWhole(topic, take, replica) {
  const [{ low, high }] = await offsetsOf(topic)
  await withCluster(async cluster => {
    const messages = fetchFrom(cluster, topic, Number(low), Number(high), 0, replica)
    for await (const message of messages) take(message)
  })
}

// Requests

async function create(topic, partitions, ...entries) {
  const configEntries = entries.map(entry => {
    const [name, value] = entry.split(/=(.*)/s)
    return { name, value }
  })
  const wanted = { topic, numPartitions: Number(partitions), configEntries }
  await (await admin()).createTopics({ topics: [wanted] })
}

// The same though nodes may be away: tries again what may pass.
async function createPatiently(...wanted) {
  const begun = Date.now()
  for (let again = false; ; again = true) {
    try {
      return await create(...wanted)
    } catch (problem) {
      const { type } = innermost(problem)
      // An earlier try did it, though its answer was lost.
      if (again && type === 'TOPIC_ALREADY_EXISTS') return
      const passes = mayPass(problem) || type === 'INVALID_REPLICATION_FACTOR' // too few nodes known to live
      if (!passes || Date.now() - begun > PATIENCE_MS) throw problem
      await dropAdmin().catch(() => {})
      await sleep(200)
    }
  }
}

async function* readRecords(path) {
  let rest = Buffer.alloc(0)
  for await (const chunk of createReadStream(path, { highWaterMark: 4 << 20 })) {
    rest = rest.length ? Buffer.concat([rest, chunk]) : chunk
    let at = 0
    while (rest.length - at >= 4) {
      const length = rest.readUInt32BE(at)
      if (rest.length - at - 4 < length) break
      yield rest.subarray(at + 4, at + 4 + length)
      at += 4 + length
    }
    rest = rest.subarray(at)
  }
}

async function produce(topic, codec, path) {
  let count = 0
  const sendAll = async producer => {
    let messages = []
    let bytes = 0
    const send = async () => {
      if (messages.length === 0) return
      const [answer] = await producer.send({ topic, messages, acks: -1, compression: CODECS[codec] })
      if (Number(answer.baseOffset) !== count) {
        throw new Error(`base offset ${answer.baseOffset} where ${count} was due`)
      }
      count += messages.length
      messages = []
      bytes = 0
    }
    for await (const value of readRecords(path)) {
      if (bytes + value.length > SEND_BYTES_MAX || messages.length === SEND_RECORDS_MAX) await send()
      messages.push({ value, partition: 0 })
      bytes += value.length
    }
    await send()
  }
  await withProducer({ idempotent: true, maxInFlightRequests: 1 }, sendAll, connectPatiently)
  return count
}

async function digest(topic, replica) {
  const sha = createHash('sha256')
  const length = Buffer.alloc(4)
  let count = 0
  await readWhole(topic, ({ value }) => {
    length.writeUInt32BE(value ? value.length : 0)
    sha.update(length)
    if (value) sha.update(value)
    count++
  }, replica)
  return [count, sha.digest('hex')].join('\t')
}

async function produceLines(topic, baseMs) {
  const messages = []
  for (let i = 0; i < LINES; i++) {
    messages.push({
      partition: 0,
      key: i % 5 === 0 ? null : `key-${i % 17}`,
      value: i % 7 === 0 ? null : i % 7 === 1 ? '' : `value ${i}`,
      headers: [{}, { h: String(i) }, { h: ['a', 'b'] }][i % 3],
      timestamp: String(Number(baseMs) + 1000 * i),
    })
  }
  await withProducer({}, producer => producer.send({ topic, messages, acks: -1 }))
  return `${messages.length}\twithout-null-headers` // its encoder throws on null
}

async function lines(topic) {
  const plain = createHash('sha256')
  const timed = createHash('sha256')
  let count = 0
  const sized = bytes => (bytes === null ? '-1 ' : `${bytes.length} ${bytes}`)
  await readWhole(topic, ({ offset, timestamp, key, value, headers }) => {
    const shown = Object.entries(headers).flatMap(([name, values]) =>
      [values].flat().map(one => `${name}=${one === null ? 'NULL' : one}`)
    )
    const rest = `${sized(key)} ${sized(value)} ${shown.join(',')}\n`
    plain.update(`${offset} ${rest}`)
    timed.update(`${offset} ${timestamp} ${rest}`)
    count++
  })
  return [count, plain.digest('hex'), timed.digest('hex')].join('\t')
}

// Behaviours

class Skipped extends Error {}

// The error that the broker answered, out of the ones that kafkajs wraps around it.
function innermost(problem) {
  const inner = problem.originalError || problem.errors?.[0] || problem.cause
  return inner ? innermost(inner) : problem
}

function reason(problem) {
  const { name, type, message } = innermost(problem)
  return `${type || name}: ${message}`
}

function equal(found, expected, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)]
  if (a !== b) throw new Error(`${what} is ${a}, not ${b}`)
}

function check(fact, otherwise) {
  if (!fact) throw new Error(otherwise)
}

async function refused(type, action) {
  let found
  try {
    await action()
  } catch (problem) {
    found = innermost(problem)
  }
  check(found, `was not refused with ${type}`)
  check(found.type === type, `refused with ${found.type || found}: ${found.message}`)
}

async function until(condition, what) {
  const deadline = Date.now() + SECONDS_MAX * 1000
  while (!(await condition())) {
    check(Date.now() < deadline, `never seen: ${what}`)
    await sleep(50)
  }
}

const isListed = async topic => (await (await admin()).listTopics()).includes(topic)

const values = (count, baseMs) =>
  Array.from({ length: count }, (_, i) => ({
    partition: 0,
    value: `record ${i}`,
    ...(baseMs === undefined ? {} : { timestamp: String(baseMs + 1000 * i) }),
  }))

async function fill(topic, count, baseMs, settings = {}, compression = CompressionTypes.None) {
  await create(topic, 1)
  await withProducer(settings, async producer => {
    const [answer] = await producer.send({ topic, messages: values(count, baseMs), acks: -1, compression })
    equal(answer.baseOffset, '0', 'base offset')
  })
}

async function valueAt(topic, offset) {
  return withCluster(async cluster => {
    for await (const message of fetchFrom(cluster, topic, offset, offset + 1)) return String(message.value)
  })
}

const CHECKS = {
  'describe cluster': async () => {
    const { brokers, controller, clusterId } = await (await admin()).describeCluster()
    check(clusterId, 'no cluster id')
    const ports = BOOTSTRAP.map(address => Number(address.split(':').pop()))
    equal(brokers.map(b => b.port).sort(), ports.sort(), 'ports')
    check(brokers.some(b => b.nodeId === controller), 'the controller is no broker')
  },
  'create, list and describe a topic': async topic => {
    await create(topic, 3, 'retention.ms=86400000')
    check(await isListed(topic), 'topic is not in the list')
    const partitions = async () =>
      (await (await admin()).fetchTopicMetadata({ topics: [topic] })).topics[0].partitions
    equal((await partitions()).map(p => p.partitionId).sort(), [0, 1, 2], 'partitions')
    const inSync = async () => (await partitions()).every(p => p.isr.length === BOOTSTRAP.length)
    await until(inSync, 'every replica in sync')
  },
  'creating a topic twice is refused': async topic => {
    await create(topic, 1)
    // createTopics answers false, not an error, when the topic is there already.
    const wanted = { topics: [{ topic, numPartitions: 1 }] }
    equal(await (await admin()).createTopics(wanted), false, 'answer')
  },
  'unknown and bad configs are refused': async topic => {
    await refused('INVALID_CONFIG', () => create(topic, 1, 'no.such.config=1'))
    await refused('INVALID_CONFIG', () => create(topic, 1, 'retention.ms=soon'))
  },
  'validate-only creates nothing': async topic => {
    await (await admin()).createTopics({ validateOnly: true, topics: [{ topic }], waitForLeaders: false })
    check(!(await isListed(topic)), 'topic was created')
  },
  'create partitions': async topic => {
    await create(topic, 2)
    await (await admin()).createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    const count = async () =>
      (await (await admin()).fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
    await until(async () => (await count()) === 5, 'five partitions')
    await withProducer({}, producer => producer.send({ topic, messages: [{ partition: 4, value: 'x' }] }))
  },
  'describe configs': async topic => {
    await create(topic, 1, 'retention.ms=86400000')
    const { resources } = await (await admin()).describeConfigs({
      includeSynonyms: false,
      resources: [{ type: ConfigResourceTypes.TOPIC, name: topic }],
    })
    const found = Object.fromEntries(resources[0].configEntries.map(e => [e.configName, e.configValue]))
    equal(found['retention.ms'], '86400000', 'retention.ms')
    equal(found['max.message.bytes'], '1048588', 'max.message.bytes')
    check('cleanup.policy' in found, 'cleanup.policy is missing')
  },
  'alter configs': async topic => {
    await create(topic, 1)
    const change = { type: ConfigResourceTypes.TOPIC, name: topic }
    try {
      await (await admin()).alterConfigs({
        validateOnly: false,
        resources: [{ ...change, configEntries: [{ name: 'retention.ms', value: '5000' }] }],
      })
    } catch (problem) {
      if (/not support/i.test(problem.message)) {
        throw new Skipped('kafkajs has only AlterConfigs (key 33), which the node does not offer')
      }
      throw problem
    }
  },
  'idempotent producer': async topic => {
    await create(topic, 1)
    await withProducer({ idempotent: true, maxInFlightRequests: 1 }, async producer => {
      for (let i = 0; i < 200; i++) {
        await producer.send({ topic, messages: [{ partition: 0, value: `record ${i}` }], acks: -1 })
      }
    })
    const found = []
    await readWhole(topic, ({ value }) => found.push(String(value)))
    equal(found, values(200).map(m => m.value), 'records')
  },
  'acks 0, 1 and all': async topic => {
    await create(topic, 1)
    await withProducer({}, async producer => {
      for (const acks of [0, 1, -1]) await producer.send({ topic, messages: values(10), acks })
    })
    const end = async () => (await (await admin()).fetchTopicOffsets(topic))[0].high
    await until(async () => (await end()) === '30', '30 records')
  },
  '50 partitions at once': async topic => {
    await create(topic, 50)
    const messages = []
    for (let p = 0; p < 50; p++) messages.push({ partition: p, value: `value ${p}` })
    await withProducer({}, producer => producer.send({ topic, messages, acks: -1 }))
    await withCluster(async cluster => {
      for (let p = 0; p < 50; p++) {
        for await (const { value } of fetchFrom(cluster, topic, 0, 1, p)) {
          equal(String(value), `value ${p}`, 'value')
        }
      }
    })
  },
  'read from beginning, middle and end': async topic => {
    await fill(topic, 1000, undefined, {}, CompressionTypes.GZIP)
    for (const offset of [0, 501, 999]) equal(await valueAt(topic, offset), `record ${offset}`, 'value')
  },
  'offsets for times': async topic => {
    const base = Date.now() - 3_600_000
    await fill(topic, 1000, base)
    const found = []
    for (const ms of [-5, 0, 500_000, 500_001]) {
      found.push((await (await admin()).fetchTopicOffsetsByTimestamp(topic, base + ms))[0].offset)
    }
    equal(found, ['0', '0', '500', '501'], 'offsets')
  },
  'list offsets': async topic => {
    await fill(topic, 100)
    const [{ low, high, offset }] = await (await admin()).fetchTopicOffsets(topic)
    equal([low, high, offset], ['0', '100', '100'], 'offsets')
  },
  'delete records': async topic => {
    await fill(topic, 100)
    await (await admin()).fetchTopicOffsets(topic) // or kafkajs does not know the partition's leader
    await (await admin()).deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '40' }] })
    const [{ low, high }] = await (await admin()).fetchTopicOffsets(topic)
    equal([low, high], ['40', '100'], 'offsets')
    equal(await valueAt(topic, 40), 'record 40', 'first value')
    await refused('OFFSET_OUT_OF_RANGE', () => valueAt(topic, 39))
  },
  'record over max.message.bytes is refused': async topic => {
    await create(topic, 1)
    await refused('MESSAGE_TOO_LARGE', () =>
      withProducer({ retry: { retries: 0 } }, producer =>
        producer.send({ topic, messages: [{ partition: 0, value: Buffer.alloc(1 << 20) }] })
      )
    )
  },
  'unknown topic is reported, not created': async topic => {
    await refused('UNKNOWN_TOPIC_OR_PARTITION', async () =>
      (await admin()).fetchTopicMetadata({ topics: [topic] })
    )
    check(!(await isListed(topic)), 'asking created the topic')
  },
  'producing to a new topic creates it': async topic => {
    await withProducer({}, producer => producer.send({ topic, messages: [{ partition: 0, value: 'first' }] }))
    equal(await valueAt(topic, 0), 'first', 'value')
  },
  'delete a topic and create it again': async topic => {
    await fill(topic, 10)
    await (await admin()).deleteTopics({ topics: [topic] })
    await until(async () => !(await isListed(topic)), 'deletion')
    await fill(topic, 5)
    const [{ high }] = await (await admin()).fetchTopicOffsets(topic)
    equal(high, '5', 'end offset')
  },
}

async function checks(prefix) {
  for (const [number, [name, run]] of Object.entries(CHECKS).entries()) {
    try {
      await run(`${prefix}-${number}`)
      await dropAdmin()
      answer('passed', name)
    } catch (problem) {
      answer(problem instanceof Skipped ? 'skipped' : 'failed', name, reason(problem))
    }
  }
}

const REQUESTS = {
  version: () => `kafkajs ${require('kafkajs/package.json').version}, Node.js ${process.versions.node}`,
  create: createPatiently,
  delete: async topic => (await admin()).deleteTopics({ topics: [topic] }),
  produce,
  digest: topic => digest(topic),
  'digest-of': (topic, nodeId, rackId) => digest(topic, { nodeId, rackId }),
  'produce-lines': produceLines,
  lines,
  checks,
}

function answer(...words) {
  process.stdout.write(words.join('\t').replaceAll('\n', ' ') + '\n')
}

// A member of a group until standard input ends: it commits what it read, then shows it.
async function member(group, topic, protocol) {
  if (protocol !== 'classic') {
    answer('unable', 'kafkajs has the classic protocol only')
    process.exitCode = 1
    return
  }
  const consumer = kafka.consumer({
    groupId: group,
    sessionTimeout: 6_000,
    heartbeatInterval: 1_000,
    maxWaitTimeInMs: 200,
  })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      const offset = String(BigInt(message.offset) + 1n)
      // A commit that fails ends this with the error: the message is not shown, and read again.
      await consumer.commitOffsets([{ topic, partition, offset }])
      answer('record', String(partition), message.offset, String(message.value))
    },
  })
  for await (const _ of process.stdin);
  // It may wait for a connection to a node that was away; its session ends by itself then.
  await Promise.race([consumer.disconnect(), sleep(20_000, undefined, { ref: false })])
  answer('left')
  process.exit()
}

async function main() {
  await addCodecs()
  if (process.argv[3] === 'member') return member(...process.argv.slice(4))
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...words] = line.split('\t')
    try {
      const found = await REQUESTS[name](...words)
      await dropAdmin()
      answer('ok', ...(found === undefined ? [] : [found]))
    } catch (problem) {
      answer('error', reason(problem))
    }
  }
  await dropAdmin()
}

main()
