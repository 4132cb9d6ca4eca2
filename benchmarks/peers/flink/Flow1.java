import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Flink's DataStream API on the mini-cluster: keyed state in RocksDB, incremental checkpoints every 5 s to a local disk,
 * at least once. State of the entity, then under the key of the group the state of the group; the answer is read from a
 * mirror of the latter in this process, as a gauge would be.
 */
public class Flow1 {
  static final long DAY = 86_400_000L, NEVER = -1;
  static final int EVENTS = Integer.parseInt(System.getenv("EVENTS"));
  static final JsonFactory JSON = new JsonFactory();
  static final AtomicInteger taken = new AtomicInteger();
  static final AtomicLong latest = new AtomicLong();
  /** Events, wall clock and CPU of the process, at a fifth and when the last change was in its group. */
  static volatile long[] fifth, last;
  /** Group to done and flow time; product to day to customers. */
  static final Map<String, List<long[]>> times = new ConcurrentHashMap<>();
  static final Map<String, Map<Long, Long>> days = new ConcurrentHashMap<>();

  static long[] mark(int events) {
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    return new long[] {events, System.nanoTime(), system.getProcessCpuTime()};
  }

  public static class Event {
    public boolean item;
    public String id, product, type, state;
    public long at;
  }

  public static class Read extends AbstractDeserializationSchema<Event> {
    @Override
    public Event deserialize(byte[] body) throws IOException {
      Event event = new Event();
      try (JsonParser parser = JSON.createParser(body)) {
        parser.nextToken();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
          String name = parser.currentName();
          if (parser.nextToken() != JsonToken.VALUE_STRING) {
            parser.skipChildren();
            continue;
          }
          switch (name) {
            case "kind" -> event.item = parser.getText().equals("item");
            case "item_id", "user_id" -> event.id = parser.getText();
            case "product" -> event.product = parser.getText();
            case "type" -> event.type = parser.getText();
            case "state" -> event.state = parser.getText();
            case "event_time" -> event.at = Instant.parse(parser.getText()).toEpochMilli();
            default -> { }
          }
        }
      }
      return event;
    }
  }

  /** Gives (group, done, NEVER, flow time) and (product, day, day before or NEVER, NEVER). */
  static class Entity extends KeyedProcessFunction<String, Event, Tuple4<String, Long, Long, Long>> {
    private transient ValueState<Tuple2<Long, Long>> item;
    private transient MapState<String, Long> seen;

    @Override
    public void open(Configuration settings) {
      item = getRuntimeContext().getState(new ValueStateDescriptor<>("item", Types.TUPLE(Types.LONG, Types.LONG)));
      seen = getRuntimeContext().getMapState(new MapStateDescriptor<>("seen", Types.STRING, Types.LONG));
    }

    @Override
    public void processElement(Event event, Context context, Collector<Tuple4<String, Long, Long, Long>> out)
        throws Exception {
      latest.accumulateAndGet(event.at, Math::max);
      if (event.item) step(event, out);
      else active(event, out);
      int n = taken.incrementAndGet();
      if (n == EVENTS / 5) fifth = mark(n);
      if (n == EVENTS) last = mark(n);
    }

    private void step(Event event, Collector<Tuple4<String, Long, Long, Long>> out) throws Exception {
      Tuple2<Long, Long> known = item.value();
      switch (event.state) {
        case "created" -> {
          if (known == null) item.update(Tuple2.of(event.at, 0L));
        }
        case "started" -> {
          if (known != null && known.f1 == 0) item.update(Tuple2.of(known.f0, event.at));
        }
        default -> {
          String group = event.product + "|" + event.type;
          if (known != null) out.collect(Tuple4.of(group, event.at, NEVER, event.at - known.f0));
        }
      }
    }

    private void active(Event event, Collector<Tuple4<String, Long, Long, Long>> out) throws Exception {
      long day = event.at / DAY;
      Long before = seen.get(event.product);
      if (before != null && day <= before) return;
      seen.put(event.product, day);
      out.collect(Tuple4.of(event.product, day, before == null ? NEVER : before, NEVER));
    }
  }

  static class Group extends KeyedProcessFunction<String, Tuple4<String, Long, Long, Long>, Void> {
    private transient MapState<Long, Long> customers;
    private transient MapState<Long, List<Long>> samples;
    private transient ValueState<Long> swept;

    @Override
    public void open(Configuration settings) {
      var samplesOf = new MapStateDescriptor<>("samples", Types.LONG, Types.LIST(Types.LONG));
      customers = getRuntimeContext().getMapState(new MapStateDescriptor<>("customers", Types.LONG, Types.LONG));
      samples = getRuntimeContext().getMapState(samplesOf);
      swept = getRuntimeContext().getState(new ValueStateDescriptor<>("swept", Types.LONG));
    }

    @Override
    public void processElement(Tuple4<String, Long, Long, Long> change, Context context, Collector<Void> out)
        throws Exception {
      if (change.f3 != NEVER) {
        keep(change.f1, change.f3);
        times.computeIfAbsent(change.f0, group -> Collections.synchronizedList(new ArrayList<>()))
            .add(new long[] {change.f1, change.f3});
      } else {
        var shown = days.computeIfAbsent(change.f0, product -> new ConcurrentHashMap<>());
        shown.put(change.f1, add(change.f1, 1));
        if (change.f2 != NEVER) shown.put(change.f2, add(change.f2, -1));
      }
      if (taken.get() == EVENTS) last = mark(EVENTS);
    }

    private void keep(long done, long took) throws Exception {
      List<Long> held = samples.get(done);
      if (held == null) held = new ArrayList<>();
      held.add(took);
      samples.put(done, held);
      Long before = swept.value();
      if (before != null && done <= before + DAY) return;
      swept.update(done);
      List<Long> old = new ArrayList<>();
      for (Long at : samples.keys()) if (at < done - 8 * DAY) old.add(at);
      for (Long at : old) samples.remove(at);
    }

    private long add(long day, int n) throws Exception {
      Long held = customers.get(day);
      long sum = (held == null ? 0 : held) + n;
      customers.put(day, sum);
      return sum;
    }
  }

  static double interpolated(List<Long> ordered, double part) {
    double place = (ordered.size() - 1) * part;
    long low = ordered.get((int) place), high = ordered.get(Math.min((int) place + 1, ordered.size() - 1));
    return low + (high - low) * (place - (int) place);
  }

  static String answer() {
    long now = latest.get(), today = now / DAY;
    List<String> groups = new ArrayList<>(), products = new ArrayList<>();
    times.forEach((group, all) -> {
      List<Long> window = new ArrayList<>();
      for (long[] sample : all) if (sample[0] > now - 7 * DAY) window.add(sample[1]);
      if (window.isEmpty()) return;
      Collections.sort(window);
      double p50 = interpolated(window, 0.5), p95 = interpolated(window, 0.95);
      groups.add(String.format("\"%s\":[%d,%.4f,%.4f]", group, window.size(), p50, p95));
    });
    days.forEach((product, all) -> {
      long[] counts = new long[3];
      all.forEach((day, n) -> {
        if (day == today) counts[0] += n;
        if (day > today - 7) counts[1] += n;
        if (day > today - 30) counts[2] += n;
      });
      products.add(String.format("\"%s\":%s", product, Arrays.toString(counts)));
    });
    return String.format("{\"flow\":{%s},\"active\":{%s}}", String.join(",", groups), String.join(",", products));
  }

  public static void main(String[] words) throws Exception {
    String state = System.getenv("STATE_DIR");
    Configuration settings = new Configuration();
    settings.setString("state.backend.type", "rocksdb");
    settings.setString("execution.checkpointing.incremental", "true");
    settings.setString("execution.checkpointing.interval", "5s");
    settings.setString("execution.checkpointing.mode", "AT_LEAST_ONCE");
    settings.setString("execution.checkpointing.dir", "file://" + state + "/checkpoints");
    settings.setString("io.tmp.dirs", state);
    settings.setString("taskmanager.memory.managed.size", "512m");
    settings.setString("pipeline.object-reuse", "true");
    var environment = StreamExecutionEnvironment.createLocalEnvironment(Integer.parseInt(words[0]), settings);
    var source = KafkaSource.<Event>builder()
        .setBootstrapServers(System.getenv("BROKER"))
        .setTopics(System.getenv("TOPIC"))
        .setGroupId(System.getenv("RUN_ID"))
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setBounded(OffsetsInitializer.latest())
        .setValueOnlyDeserializer(new Read())
        .build();
    environment.fromSource(source, WatermarkStrategy.noWatermarks(), "events")
        .keyBy(event -> event.id).process(new Entity())
        .returns(Types.TUPLE(Types.STRING, Types.LONG, Types.LONG, Types.LONG))
        .keyBy(change -> change.f0).process(new Group()).returns(Types.VOID);
    environment.execute("flow1");
    long events = last[0] - fifth[0];
    double rate = events / ((last[1] - fifth[1]) / 1e9), cpu = (last[2] - fifth[2]) / 1e9 / events * 1e6;
    String figures = String.format("\"events_per_s\":%.1f,\"cpu_s_per_million\":%.3f", rate, cpu);
    Files.writeString(Path.of(System.getenv("RESULT")), String.format("{%s,\"answer\":%s}", figures, answer()));
    System.exit(0);
  }
}
