import java.net.URI;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/** Hadoop's own client, timed: StockBench URI OPERATION ARGUMENTS. Prints numbers, separated by spaces. */
public final class StockBench {
  private static final int PIECE_BYTES = 1 << 20;

  private final FileSystem fs;
  private final Configuration conf = new Configuration();

  private StockBench(String uri, int replication) throws Exception {
    conf.set("fs.defaultFS", uri);
    conf.setInt("dfs.replication", replication);
    // With its own connections and threads for each instance.
    conf.setBoolean("fs.hdfs.impl.disable.cache", true);
    fs = FileSystem.newInstance(URI.create(uri), conf);
  }

  public static void main(String[] arguments) throws Exception {
    StockBench bench = new StockBench(arguments[0], Integer.parseInt(arguments[2]));
    switch (arguments[1]) {
      case "tree" -> bench.tree(arguments[3], Integer.parseInt(arguments[4]), Integer.parseInt(arguments[5]));
      case "create" -> bench.create(arguments[3], Integer.parseInt(arguments[4]), Integer.parseInt(arguments[5]));
      case "write" -> bench.write(arguments[3], Long.parseLong(arguments[4]));
      case "read" -> bench.read(arguments[3], Integer.parseInt(arguments[4]));
      case "crowd" -> bench.crowd(arguments[3], Integer.parseInt(arguments[4]), Integer.parseInt(arguments[5]));
      default -> throw new IllegalArgumentException(arguments[1]);
    }
    System.exit(0);
  }

  private static byte[] random(int length) {
    byte[] bytes = new byte[length];
    new Random(length).nextBytes(bytes);
    return bytes;
  }

  /** Directories with 16 files of so many bytes each. */
  private void tree(String path, int directories, int bytes) throws Exception {
    byte[] content = random(bytes);
    for (int directory = 0; directory < directories; directory++) {
      for (int file = 0; file < 16; file++) {
        put(new Path(path + "/" + directory + "/" + file), content);
      }
    }
    System.out.println(directories * 16);
  }

  private void put(Path path, byte[] content) throws Exception {
    try (FSDataOutputStream out = fs.create(path, true)) {
      out.write(content);
    }
  }

  /** So many files of 4 KiB, the first tenth of them not counted: p50, p99 and mean in milliseconds. */
  private void create(String path, int files, int bytes) throws Exception {
    byte[] content = random(bytes);
    long[] times = new long[files];
    for (int file = 0; file < files; file++) {
      long begin = System.nanoTime();
      put(new Path(path + "/" + file), content);
      times[file] = System.nanoTime() - begin;
    }
    long[] counted = Arrays.copyOfRange(times, files / 10, files);
    Arrays.sort(counted);
    double mean = Arrays.stream(counted).average().orElse(0);
    System.out.println(counted[counted.length / 2] / 1e6 + " " + counted[counted.length * 99 / 100] / 1e6 + " " + mean / 1e6);
  }

  /** Seconds that a file of so many bytes takes. */
  private void write(String path, long bytes) throws Exception {
    byte[] piece = random(PIECE_BYTES);
    long begin = System.nanoTime();
    try (FSDataOutputStream out = fs.create(new Path(path), true)) {
      for (long at = 0; at < bytes; at += piece.length) {
        out.write(piece, 0, (int) Math.min(piece.length, bytes - at));
      }
    }
    System.out.println((System.nanoTime() - begin) / 1e9);
  }

  /** Seconds that it takes to read it, each time. */
  private void read(String path, int times) throws Exception {
    byte[] piece = new byte[PIECE_BYTES];
    for (int time = 0; time < times; time++) {
      long begin = System.nanoTime();
      try (FSDataInputStream in = fs.open(new Path(path))) {
        while (in.read(piece) >= 0) {
          // Only read.
        }
      }
      System.out.print((System.nanoTime() - begin) / 1e9 + " ");
    }
    System.out.println();
  }

  /** Clients that each put, look at, read and delete a file of 4 KiB again and again: rounds a second, p50 and p99 in milliseconds. */
  private void crowd(String path, int clients, int rounds) throws Exception {
    byte[] content = random(4096);
    long[][] times = new long[clients][rounds];
    CountDownLatch ready = new CountDownLatch(clients);
    AtomicLong begin = new AtomicLong();
    Thread[] threads = new Thread[clients];
    for (int client = 0; client < clients; client++) {
      int number = client;
      FileSystem own = FileSystem.newInstance(fs.getUri(), conf);
      threads[client] = new Thread(() -> {
        try {
          own.getFileStatus(new Path("/"));
          ready.countDown();
          ready.await();
          begin.compareAndSet(0, System.nanoTime());
          Path file = new Path(path + "/" + number);
          for (int round = 0; round < rounds; round++) {
            long started = System.nanoTime();
            try (FSDataOutputStream out = own.create(file, true)) {
              out.write(content);
            }
            own.getFileStatus(file);
            try (FSDataInputStream in = own.open(file)) {
              in.readFully(0, new byte[4096]);
            }
            own.delete(file, false);
            times[number][round] = System.nanoTime() - started;
          }
        } catch (Exception failed) {
          failed.printStackTrace();
          System.exit(1);
        }
      });
      threads[client].start();
    }
    for (Thread thread : threads) {
      thread.join();
    }
    double seconds = (System.nanoTime() - begin.get()) / 1e9;
    long[] all = Arrays.stream(times).flatMapToLong(Arrays::stream).sorted().toArray();
    System.out.println(all.length / seconds + " " + all[all.length / 2] / 1e6 + " " + all[all.length * 99 / 100] / 1e6);
  }
}
