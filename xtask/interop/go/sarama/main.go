// sarama behind the line protocol of ../../README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"braidlog/interop/line"

	"github.com/IBM/sarama"
	"github.com/rcrowley/go-metrics"
)

func main() {
	line.Main(func(bootstrap []string) (line.Client, error) {
		return &ibm{bootstrap: bootstrap}, nil
	})
}

type ibm struct {
	bootstrap []string
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion // it does not ask what the broker has
	config.ClientID = "interop"
	config.Metadata.AllowAutoTopicCreation = false
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.MaxWaitTime = 250 * time.Millisecond
	config.Producer.Return.Successes = true
	config.Producer.MaxMessageBytes = 1_900_000
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.MetricRegistry = metrics.NewRegistry()
	return config
}

// named gives errors Kafka's names.
func named(err error) error {
	if err == nil {
		return nil
	}
	var known sarama.KError
	if errors.As(err, &known) {
		return line.Named(int(known), err)
	}
	var topic *sarama.TopicError
	if errors.As(err, &topic) {
		return line.Named(int(topic.Err), err)
	}
	var several *sarama.TopicPartitionError
	if errors.As(err, &several) {
		return line.Named(int(several.Err), err)
	}
	return line.Passing{Problem: err}
}

// with runs an action with a client of its own: sarama's remember what they saw.
func (i *ibm) with(config *sarama.Config, action func(sarama.Client) error) error {
	client, err := sarama.NewClient(i.bootstrap, config)
	if err != nil {
		return named(err)
	}
	defer client.Close()
	return action(client)
}

func (i *ibm) admin(action func(sarama.ClusterAdmin) error) error {
	admin, err := sarama.NewClusterAdmin(i.bootstrap, config())
	if err != nil {
		return named(err)
	}
	defer admin.Close()
	return named(action(admin))
}

func (i *ibm) Version() string {
	return "sarama " + line.ModuleVersion("github.com/IBM/sarama")
}

func (i *ibm) Create(topic string, partitions int, configs map[string]string) error {
	return i.admin(func(admin sarama.ClusterAdmin) error {
		entries := map[string]*string{}
		for name, value := range configs {
			entries[name] = &value
		}
		detail := sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: -1, ConfigEntries: entries}
		return admin.CreateTopic(topic, &detail, false)
	})
}

func (i *ibm) Delete(topic string) error {
	return i.admin(func(admin sarama.ClusterAdmin) error { return admin.DeleteTopic(topic) })
}

func (i *ibm) Topics() (names []string, err error) {
	err = i.with(config(), func(client sarama.Client) error {
		names, err = client.Topics()
		return err
	})
	return names, err
}

func (i *ibm) Cluster() (id string, controller int, ports []int, err error) {
	err = i.with(config(), func(client sarama.Client) error {
		broker, err := client.Controller()
		if err != nil {
			return err
		}
		controller = int(broker.ID())
		if err := broker.Open(client.Config()); err != nil && !errors.Is(err, sarama.ErrAlreadyConnected) {
			return err
		}
		answer, err := broker.GetMetadata(sarama.NewMetadataRequest(client.Config().Version, []string{}))
		if err != nil {
			return err
		}
		if answer.ClusterID != nil {
			id = *answer.ClusterID
		}
		for _, broker := range client.Brokers() {
			_, text, err := net.SplitHostPort(broker.Addr())
			if err != nil {
				return err
			}
			port, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			ports = append(ports, port)
		}
		return nil
	})
	return id, controller, ports, err
}

func (i *ibm) Config(topic, name string) (value string, err error) {
	err = i.admin(func(admin sarama.ClusterAdmin) error {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{
			Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name},
		})
		for _, entry := range entries {
			if entry.Name == name {
				value = entry.Value
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("no config %s", name))
	})
	return value, err
}

func (i *ibm) SetConfig(topic, name, value string) error {
	return i.admin(func(admin sarama.ClusterAdmin) error {
		entries := map[string]sarama.IncrementalAlterConfigsEntry{
			name: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
		}
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
	})
}

func (i *ibm) Grow(topic string, partitions int) error {
	return i.admin(func(admin sarama.ClusterAdmin) error {
		return admin.CreatePartitions(topic, int32(partitions), nil, false)
	})
}

func (i *ibm) Trim(topic string, offset int64) error {
	return i.admin(func(admin sarama.ClusterAdmin) error {
		return admin.DeleteRecords(topic, map[int32]int64{0: offset})
	})
}

func (i *ibm) Groups() (names []string, err error) {
	err = i.admin(func(admin sarama.ClusterAdmin) error {
		found, err := admin.ListConsumerGroups()
		for name := range found {
			names = append(names, name)
		}
		return err
	})
	return names, err
}

func (i *ibm) GroupState(group string) (state string, members int, err error) {
	err = i.admin(func(admin sarama.ClusterAdmin) error {
		found, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return err
		}
		if len(found) != 1 {
			return fmt.Errorf("%d groups were described", len(found))
		}
		if found[0].Err != sarama.ErrNoError {
			return found[0].Err
		}
		state, members = found[0].State, len(found[0].Members)
		return nil
	})
	return state, members, err
}

func (i *ibm) GroupOffset(group, topic string) (offset int64, err error) {
	err = i.admin(func(admin sarama.ClusterAdmin) error {
		found, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0}})
		if err != nil {
			return err
		}
		block := found.GetBlock(topic, 0)
		if block == nil {
			return errors.New("no offset in the answer")
		}
		if block.Err != sarama.ErrNoError {
			return block.Err
		}
		offset = block.Offset
		return nil
	})
	return offset, err
}

func (i *ibm) SetGroupOffset(group, topic string, offset int64) error {
	return i.admin(func(admin sarama.ClusterAdmin) error {
		wanted := map[string]map[int32]sarama.OffsetAndMetadata{topic: {0: {Offset: offset, LeaderEpoch: -1}}}
		answer, err := admin.AlterConsumerGroupOffsets(group, wanted, nil)
		if err != nil {
			return err
		}
		if problem := answer.Errors[topic][0]; problem != sarama.ErrNoError {
			return problem
		}
		return nil
	})
}

func (i *ibm) DeleteGroupOffset(group, topic string) error {
	return i.admin(func(admin sarama.ClusterAdmin) error {
		return admin.DeleteConsumerGroupOffset(group, topic, 0)
	})
}

func (i *ibm) DeleteGroup(group string) error {
	return i.admin(func(admin sarama.ClusterAdmin) error { return admin.DeleteConsumerGroup(group) })
}

func (i *ibm) Bounds(topic string, partition int) (start, end int64, err error) {
	err = i.with(config(), func(client sarama.Client) error {
		if start, err = client.GetOffset(topic, int32(partition), sarama.OffsetOldest); err != nil {
			return named(err)
		}
		end, err = client.GetOffset(topic, int32(partition), sarama.OffsetNewest)
		return named(err)
	})
	return start, end, err
}

func (i *ibm) AtTime(topic string, ms int64) (offset int64, err error) {
	err = i.with(config(), func(client sarama.Client) error {
		offset, err = client.GetOffset(topic, 0, ms)
		return named(err)
	})
	return offset, err
}

func (i *ibm) Send(topic string, partition int, settings line.Settings, next func() (*line.Record, error)) ([]int64, error) {
	config := config()
	config.Producer.RequiredAcks = sarama.RequiredAcks(settings.Acks)
	config.Producer.Compression = map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[settings.Codec]
	config.Metadata.AllowAutoTopicCreation = true
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	config.Producer.Retry.Max = 100
	// A record is failed at once, whatever the line above, when no leader is known after so many looks,
	// a quarter of a second apart; the default is three.
	config.Metadata.Retry.Max = 100
	// What sarama demands of idempotent producers; it keeps the order of the others too.
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent = settings.IsIdempotent
	producer, err := sarama.NewAsyncProducer(i.bootstrap, config)
	if err != nil {
		return nil, named(err)
	}
	var offsets []int64
	var failed error
	succeeded, refused := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(succeeded)
		for message := range producer.Successes() {
			offsets = append(offsets, message.Offset)
		}
	}()
	go func() {
		defer close(refused)
		for problem := range producer.Errors() {
			failed = problem.Err
		}
	}()
	for {
		record, err := next()
		if err != nil {
			failed = err
			break
		}
		if record == nil {
			break
		}
		message := sarama.ProducerMessage{Topic: topic, Partition: int32(partition), Timestamp: record.Time}
		if record.Key != nil {
			message.Key = sarama.ByteEncoder(record.Key)
		}
		if record.Value != nil {
			message.Value = sarama.ByteEncoder(record.Value)
		}
		for _, header := range record.Headers {
			message.Headers = append(message.Headers, sarama.RecordHeader{Key: []byte(header.Key), Value: header.Value})
		}
		producer.Input() <- &message
	}
	producer.AsyncClose()
	<-succeeded
	<-refused
	if settings.Acks == 0 {
		offsets = nil
	}
	return offsets, named(failed)
}

func (i *ibm) Read(topic string, partition int, start, end int64, settings line.Settings, take func(*line.Record) error) error {
	config := config()
	config.RackID = settings.Rack
	err := i.with(config, func(client sarama.Client) error {
		consumer, err := sarama.NewConsumerFromClient(client)
		if err != nil {
			return err
		}
		defer consumer.Close()
		records, err := consumer.ConsumePartition(topic, int32(partition), start)
		if err != nil {
			return named(err)
		}
		defer records.AsyncClose()
		for next := start; next < end; {
			select {
			case problem := <-records.Errors():
				if problem != nil {
					return named(problem.Err)
				}
			case <-time.After(line.SecondsMax * time.Second):
				return fmt.Errorf("read up to offset %d of %d", next, end)
			case message := <-records.Messages():
				if message == nil {
					return errors.New("the consumer ended")
				}
				if err := take(record(message)); err != nil {
					return err
				}
				next = message.Offset + 1
			}
		}
		return nil
	})
	if err == nil && settings.Node != "" {
		return mostFrom(config.MetricRegistry, settings.Node)
	}
	return err
}

// mostFrom insists that most bytes came from a node.
func mostFrom(registry metrics.Registry, node string) error {
	var here, all int64
	registry.Each(func(name string, metric any) {
		meter, ok := metric.(metrics.Meter)
		if !ok {
			return
		}
		switch name {
		case "incoming-byte-rate":
			all = meter.Count()
		case "incoming-byte-rate-for-broker-" + node:
			here = meter.Count()
		}
	})
	if 2*here <= all {
		return fmt.Errorf("%d of %d bytes came from node %s", here, all, node)
	}
	return nil
}

func record(message *sarama.ConsumerMessage) *line.Record {
	found := line.Record{Offset: message.Offset, Time: message.Timestamp, Key: message.Key, Value: message.Value}
	for _, header := range message.Headers {
		found.Headers = append(found.Headers, line.Header{Key: string(header.Key), Value: header.Value})
	}
	return &found
}

func (i *ibm) Member(group, topic, protocol string, stop <-chan struct{}, show line.Shown) error {
	if protocol != "classic" {
		return line.Unable("sarama has the classic protocol only")
	}
	config := config()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = time.Second
	config.Consumer.Group.Rebalance.Timeout = 10 * time.Second
	client, err := sarama.NewClient(i.bootstrap, config)
	if err != nil {
		return err
	}
	defer client.Close()
	member, err := sarama.NewConsumerGroupFromClient(group, client)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-stop
		cancel()
	}()
	go func() {
		for range member.Errors() {
			// It goes on by itself; what it could not commit is not shown.
		}
	}()
	well := time.Now()
	for ctx.Err() == nil {
		begun := time.Now()
		err := member.Consume(ctx, []string{topic}, &handler{show})
		// Nodes that are away are reported; whoever calls it calls it again.
		var passes line.Passing
		if err == nil || time.Since(begun) > time.Second {
			well = time.Now()
		} else if ctx.Err() == nil && (!errors.As(named(err), &passes) || time.Since(well) > line.SecondsMax*time.Second) {
			return err
		}
		if err != nil {
			// It asks for the coordinator again only when told to.
			_ = client.RefreshCoordinator(group)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return member.Close()
}

type handler struct{ show line.Shown }

func (h *handler) Setup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case <-session.Context().Done():
			return nil
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			session.MarkMessage(message, "")
			session.Commit()
			h.show.Record(message.Partition, message.Offset, message.Value)
		}
	}
}
