import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams with the Processor API: RocksDB stores with changelogs for each task, at least once, commits every 5 s.
 * The answer is an interactive query that adds up what the tasks hold, so no topic for repartitioning is needed. The
 * record cache is off: this workload hardly writes a key twice soon, and runs faster without.
 */
public class Flow1 {
  static final long HOUR = 3_600_000L, DAY = 24 * HOUR;
  static final int EVENTS = Integer.parseInt(System.getenv("EVENTS"));
  static final JsonFactory JSON = new JsonFactory();
  static final AtomicInteger taken = new AtomicInteger();
  static final AtomicLong latest = new AtomicLong();
  static final CountDownLatch done = new CountDownLatch(1);
  /** Events, wall clock and CPU of the process, at a fifth and at the end. */
  static volatile long[] fifth, last;

  static long[] mark(int events) {
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    return new long[] {events, System.nanoTime(), system.getProcessCpuTime()};
  }

  static void count() {
    int n = taken.incrementAndGet();
    if (n == EVENTS / 5) fifth = mark(n);
    if (n == EVENTS) {
      last = mark(n);
      done.countDown();
    }
  }

  /**
   * items: item to first created and started; seen: product and customer to last active day; times: done, group and
   * item to flow time; days: product and day to customers.
   */
  static class Job implements Processor<String, byte[], Void, Void> {
    private KeyValueStore<String, byte[]> items;
    private KeyValueStore<String, Integer> seen, days;
    private KeyValueStore<String, Long> times;
    private final Map<String, String> fields = new HashMap<>();
    private long sweptAt = 0, sweptTo = 0;

    @Override
    public void init(ProcessorContext<Void, Void> context) {
      items = context.getStateStore("items");
      seen = context.getStateStore("seen");
      times = context.getStateStore("times");
      days = context.getStateStore("days");
    }

    @Override
    public void process(Record<String, byte[]> record) {
      read(record.value());
      long at = Instant.parse(fields.get("event_time")).toEpochMilli();
      latest.accumulateAndGet(at, Math::max);
      if (fields.get("kind").equals("item")) step(at);
      else active((int) (at / DAY));
      count();
    }

    private void read(byte[] body) {
      fields.clear();
      try (JsonParser parser = JSON.createParser(body)) {
        parser.nextToken();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
          String name = parser.currentName();
          if (parser.nextToken() == JsonToken.VALUE_STRING) fields.put(name, parser.getText());
          else parser.skipChildren();
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private void step(long at) {
      String id = fields.get("item_id");
      byte[] item = items.get(id);
      switch (fields.get("state")) {
        case "created" -> {
          if (item == null) items.put(id, ByteBuffer.allocate(16).putLong(at).putLong(0).array());
        }
        case "started" -> {
          if (item != null && ByteBuffer.wrap(item).getLong(8) == 0) {
            items.put(id, ByteBuffer.wrap(item.clone()).putLong(8, at).array());
          }
        }
        default -> {
          String group = fields.get("product") + "|" + fields.get("type");
          if (item != null) times.put(at + "|" + group + "|" + id, at - ByteBuffer.wrap(item).getLong());
          if (at > sweptAt + HOUR) sweep(at);
        }
      }
    }

    /** Drop what left the window; never from 0 again, as RocksDB would walk over all that was dropped before. */
    private void sweep(long at) {
      sweptAt = at;
      String from = String.format("%013d", sweptTo), to = String.format("%013d", at - 8 * DAY);
      sweptTo = at - 8 * DAY;
      List<String> old = new ArrayList<>();
      try (var range = times.range(from, to)) {
        while (range.hasNext()) old.add(range.next().key);
      }
      old.forEach(times::delete);
    }

    private void active(int day) {
      String product = fields.get("product"), key = product + "|" + fields.get("user_id");
      Integer before = seen.get(key);
      if (before != null && day <= before) return;
      seen.put(key, day);
      add(product + "|" + day, 1);
      if (before != null) add(product + "|" + before, -1);
    }

    private void add(String key, int n) {
      Integer held = days.get(key);
      days.put(key, (held == null ? 0 : held) + n);
    }
  }

  static <V> StoreBuilder<KeyValueStore<String, V>> store(String name, Serde<V> values) {
    return Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.String(), values);
  }

  static double interpolated(List<Long> ordered, double part) {
    double place = (ordered.size() - 1) * part;
    long low = ordered.get((int) place), high = ordered.get(Math.min((int) place + 1, ordered.size() - 1));
    return low + (high - low) * (place - (int) place);
  }

  static String answer(KafkaStreams streams) {
    long now = latest.get(), today = now / DAY;
    Map<String, List<Long>> flow = new TreeMap<>();
    Map<String, int[]> active = new TreeMap<>();
    ReadOnlyKeyValueStore<String, Long> times =
        streams.store(StoreQueryParameters.fromNameAndType("times", QueryableStoreTypes.keyValueStore()));
    try (var all = times.all()) {
      while (all.hasNext()) {
        var sample = all.next();
        String[] key = sample.key.split("\\|");
        if (Long.parseLong(key[0]) > now - 7 * DAY) {
          flow.computeIfAbsent(key[1] + "|" + key[2], group -> new ArrayList<>()).add(sample.value);
        }
      }
    }
    ReadOnlyKeyValueStore<String, Integer> days =
        streams.store(StoreQueryParameters.fromNameAndType("days", QueryableStoreTypes.keyValueStore()));
    try (var all = days.all()) {
      while (all.hasNext()) {
        var customers = all.next();
        String[] key = customers.key.split("\\|");
        int[] counts = active.computeIfAbsent(key[0], product -> new int[3]);
        long day = Long.parseLong(key[1]);
        if (day == today) counts[0] += customers.value;
        if (day > today - 7) counts[1] += customers.value;
        if (day > today - 30) counts[2] += customers.value;
      }
    }
    List<String> groups = new ArrayList<>(), products = new ArrayList<>();
    flow.forEach((group, all) -> {
      Collections.sort(all);
      double p50 = interpolated(all, 0.5), p95 = interpolated(all, 0.95);
      groups.add(String.format("\"%s\":[%d,%.4f,%.4f]", group, all.size(), p50, p95));
    });
    active.forEach((product, counts) -> products.add(String.format("\"%s\":%s", product, Arrays.toString(counts))));
    return String.format("{\"flow\":{%s},\"active\":{%s}}", String.join(",", groups), String.join(",", products));
  }

  public static void main(String[] words) throws Exception {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("RUN_ID"));
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BROKER"));
    settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("STATE_DIR"));
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, words[0]);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, "5000");
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    Topology topology = new Topology();
    topology
        .addSource("events", Serdes.String().deserializer(), Serdes.ByteArray().deserializer(), System.getenv("TOPIC"))
        .addProcessor("job", Job::new, "events")
        .addStateStore(store("items", Serdes.ByteArray()), "job")
        .addStateStore(store("seen", Serdes.Integer()), "job")
        .addStateStore(store("times", Serdes.Long()), "job")
        .addStateStore(store("days", Serdes.Integer()), "job");
    KafkaStreams streams = new KafkaStreams(topology, settings);
    streams.start();
    done.await();
    String answer = answer(streams);
    streams.close();
    long events = last[0] - fifth[0];
    double rate = events / ((last[1] - fifth[1]) / 1e9), cpu = (last[2] - fifth[2]) / 1e9 / events * 1e6;
    String figures = String.format("\"events_per_s\":%.1f,\"cpu_s_per_million\":%.3f", rate, cpu);
    Files.writeString(Path.of(System.getenv("RESULT")), String.format("{%s,\"answer\":%s}", figures, answer));
    System.exit(0);
  }
}
