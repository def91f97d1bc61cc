// franz-go behind the line protocol of ../../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"braidlog/interop/line"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	line.Main(func(bootstrap []string) (line.Client, error) {
		client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...))
		if err != nil {
			return nil, err
		}
		return &franz{bootstrap, kadm.NewClient(client)}, nil
	})
}

type franz struct {
	bootstrap []string
	admin     *kadm.Client
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), line.SecondsMax*time.Second)
}

// passing marks what may pass while nodes are away.
func passing(err error) error {
	if err == nil {
		return nil
	}
	var known *kerr.Error
	isKafkas := errors.As(err, &known)
	if !isKafkas || known.Retriable || known == kerr.InvalidReplicationFactor {
		return line.Passing{Problem: err}
	}
	return err
}

func mayPass(err error) bool {
	var passes line.Passing
	return errors.As(passing(err), &passes)
}

func (f *franz) Version() string {
	return "franz-go " + line.ModuleVersion("github.com/twmb/franz-go")
}

func (f *franz) Create(topic string, partitions int, configs map[string]string) error {
	ctx, cancel := limit()
	defer cancel()
	settings := map[string]*string{}
	for name, value := range configs {
		settings[name] = &value
	}
	_, err := f.admin.CreateTopic(ctx, int32(partitions), -1, settings, topic)
	return passing(err)
}

func (f *franz) Delete(topic string) error {
	ctx, cancel := limit()
	defer cancel()
	_, err := f.admin.DeleteTopic(ctx, topic)
	return err
}

func (f *franz) Topics() ([]string, error) {
	ctx, cancel := limit()
	defer cancel()
	topics, err := f.admin.ListTopics(ctx)
	var names []string
	for name, topic := range topics {
		// It also lists what it once asked for and what is not there.
		if topic.Err == nil {
			names = append(names, name)
		}
	}
	return names, err
}

func (f *franz) Cluster() (string, int, []int, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := f.admin.BrokerMetadata(ctx)
	var ports []int
	for _, broker := range found.Brokers {
		ports = append(ports, int(broker.Port))
	}
	return found.Cluster, int(found.Controller), ports, err
}

func (f *franz) Config(topic, name string) (string, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := f.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	resource, err := found.On(topic, nil)
	if err != nil {
		return "", err
	}
	for _, config := range resource.Configs {
		if config.Key == name {
			return config.MaybeValue(), nil
		}
	}
	return "", fmt.Errorf("no config %s", name)
}

func (f *franz) SetConfig(topic, name, value string) error {
	ctx, cancel := limit()
	defer cancel()
	change := kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
	answers, err := f.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
	if err != nil {
		return err
	}
	answer, err := answers.On(topic, nil)
	if err != nil {
		return err
	}
	return answer.Err
}

func (f *franz) Grow(topic string, partitions int) error {
	ctx, cancel := limit()
	defer cancel()
	answers, err := f.admin.UpdatePartitions(ctx, partitions, topic)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (f *franz) Trim(topic string, offset int64) error {
	ctx, cancel := limit()
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, offset, -1)
	answers, err := f.admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (f *franz) Bounds(topic string, partition int) (int64, int64, error) {
	ctx, cancel := limit()
	defer cancel()
	start, err := f.admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = start.Error()
	}
	if err != nil {
		return 0, 0, err
	}
	end, err := f.admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = end.Error()
	}
	first, _ := start.Lookup(topic, int32(partition))
	last, ok := end.Lookup(topic, int32(partition))
	if err == nil && !ok {
		err = errors.New("no offsets")
	}
	return first.Offset, last.Offset, err
}

func (f *franz) AtTime(topic string, ms int64) (int64, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := f.admin.ListOffsetsAfterMilli(ctx, ms, topic)
	if err == nil {
		err = found.Error()
	}
	one, _ := found.Lookup(topic, 0)
	if err == nil && one.Timestamp < 0 {
		return -1, nil
	}
	return one.Offset, err
}

func (f *franz) Groups() ([]string, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := f.admin.ListGroups(ctx)
	return found.Groups(), err
}

func (f *franz) GroupState(group string) (string, int, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := f.admin.DescribeGroups(ctx, group)
	if err != nil {
		return "", 0, err
	}
	one := found[group]
	return one.State, len(one.Members), one.Err
}

func (f *franz) GroupOffset(group, topic string) (int64, error) {
	ctx, cancel := limit()
	defer cancel()
	found, err := f.admin.FetchOffsets(ctx, group)
	if err == nil {
		err = found.Error()
	}
	if one, ok := found.Lookup(topic, 0); ok {
		return one.At, err
	}
	return -1, err
}

func (f *franz) SetGroupOffset(group, topic string, offset int64) error {
	ctx, cancel := limit()
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, offset, -1)
	answers, err := f.admin.CommitOffsets(ctx, group, offsets)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (f *franz) DeleteGroupOffset(group, topic string) error {
	ctx, cancel := limit()
	defer cancel()
	partitions := kadm.TopicsSet{}
	partitions.Add(topic, 0)
	answers, err := f.admin.DeleteOffsets(ctx, group, partitions)
	if err != nil {
		return err
	}
	return answers.Error()
}

func (f *franz) DeleteGroup(group string) error {
	ctx, cancel := limit()
	defer cancel()
	answer, err := f.admin.DeleteGroup(ctx, group)
	if err != nil {
		return err
	}
	return answer.Err
}

func (f *franz) Send(topic string, partition int, settings line.Settings, next func() (*line.Record, error)) ([]int64, error) {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[settings.Codec]
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap...), kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1_900_000),
		kgo.MaxBufferedBytes(64 << 20), kgo.AllowAutoTopicCreation(),
	}
	switch {
	case settings.Acks == 0:
		options = append(options, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck()))
	case settings.Acks == 1:
		options = append(options, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
	case !settings.IsIdempotent:
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var lock sync.Mutex
	var offsets []int64
	var failed error
	for {
		record, err := next()
		if err != nil {
			return nil, err
		}
		if record == nil {
			break
		}
		sent := &kgo.Record{Partition: int32(partition), Key: record.Key, Value: record.Value, Timestamp: record.Time}
		for _, header := range record.Headers {
			sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: header.Key, Value: header.Value})
		}
		client.Produce(context.Background(), sent, func(done *kgo.Record, err error) {
			lock.Lock()
			defer lock.Unlock()
			if err != nil {
				failed = errors.Join(failed, err)
			} else {
				offsets = append(offsets, done.Offset)
			}
		})
		lock.Lock()
		err = failed
		lock.Unlock()
		if err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*line.SecondsMax*time.Second)
	defer cancel()
	if err := client.Flush(ctx); err != nil {
		return nil, err
	}
	return offsets, failed
}

// bytesFrom counts what the answers to fetches bring, by node.
type bytesFrom struct {
	lock  sync.Mutex
	nodes map[int32]int
}

func (b *bytesFrom) OnBrokerRead(meta kgo.BrokerMetadata, key int16, bytes int, _, _ time.Duration, _ error) {
	const fetch = 1
	if key == fetch {
		b.lock.Lock()
		b.nodes[meta.NodeID] += bytes
		b.lock.Unlock()
	}
}

func (f *franz) Read(topic string, partition int, start, end int64, settings line.Settings, take func(*line.Record) error) error {
	read := &bytesFrom{nodes: map[int32]int{}}
	from := map[string]map[int32]kgo.Offset{topic: {int32(partition): kgo.NewOffset().At(start)}}
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap...), kgo.ConsumePartitions(from),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.WithHooks(read),
	}
	if settings.Rack != "" {
		options = append(options, kgo.Rack(settings.Rack))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	for next := start; next < end; {
		ctx, cancel := limit()
		fetches := client.PollFetches(ctx)
		cancel()
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		for records := fetches.RecordIter(); !records.Done() && next < end; {
			record := records.Next()
			found := line.Record{Offset: record.Offset, Time: record.Timestamp, Key: record.Key, Value: record.Value}
			for _, header := range record.Headers {
				found.Headers = append(found.Headers, line.Header{Key: header.Key, Value: header.Value})
			}
			if err := take(&found); err != nil {
				return err
			}
			next = record.Offset + 1
		}
	}
	if settings.Node != "" {
		wanted, err := strconv.Atoi(settings.Node)
		if err != nil {
			return err
		}
		read.lock.Lock()
		defer read.lock.Unlock()
		others := 0
		for node, bytes := range read.nodes {
			if node != int32(wanted) {
				others += bytes
			}
		}
		if read.nodes[int32(wanted)] <= others {
			return fmt.Errorf("bytes came from %v, not most from node %d", read.nodes, wanted)
		}
	}
	return nil
}

func (f *franz) Member(group, topic, protocol string, stop <-chan struct{}, show line.Shown) error {
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
	}
	if protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()))
	} else {
		options = append(options, kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-stop
		cancel()
	}()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return errs[0].Err
		}
		records := fetches.Records()
		if len(records) > 0 {
			err := client.CommitRecords(context.Background(), records...)
			for begun := time.Now(); err != nil && mayPass(err) && time.Since(begun) < line.SecondsMax*time.Second; {
				time.Sleep(100 * time.Millisecond)
				err = client.CommitRecords(context.Background(), records...)
			}
			if err != nil {
				return err
			}
			for _, record := range records {
				show.Record(record.Partition, record.Offset, record.Value)
			}
		}
		client.AllowRebalance()
	}
	client.AllowRebalance()
	return nil
}
