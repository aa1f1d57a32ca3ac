package telemetry

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// publishMetrics are those of publishing to NATS. They are there, and zero, also
// when it is dormant.
type publishMetrics struct {
	published, failed prometheus.Counter
}

func newPublishMetrics(auto promauto.Factory) publishMetrics {
	messages := auto.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "publish_messages_total",
		Help: "Messages that were to be published to NATS, by outcome: published, or failed and to be tried again.",
	}, []string{"outcome"})
	return publishMetrics{published: messages.WithLabelValues("published"), failed: messages.WithLabelValues("failed")}
}

// Broker is where messages are published, once it is open.
type Broker interface {
	Open(ctx context.Context) error
	message.Publisher
}

// Broker returns a broker whose messages are counted.
func (m *Metrics) Broker(next Broker) Broker { return countedBroker{next, &m.publish} }

type countedBroker struct {
	Broker
	metrics *publishMetrics
}

func (b countedBroker) Publish(topic string, messages ...*message.Message) error {
	err := b.Broker.Publish(topic, messages...)
	if err != nil {
		b.metrics.failed.Add(float64(len(messages)))
	} else {
		b.metrics.published.Add(float64(len(messages)))
	}
	return err
}
