import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.BlockLocation;
import org.apache.hadoop.fs.BlockStoragePolicySpi;
import org.apache.hadoop.fs.ContentSummary;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileContext;
import org.apache.hadoop.fs.FileRange;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.FsServerDefaults;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Options;
import org.apache.hadoop.fs.PartialListing;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.QuotaUsage;
import org.apache.hadoop.fs.RemoteIterator;
import org.apache.hadoop.fs.XAttrSetFlag;
import org.apache.hadoop.fs.permission.AclEntry;
import org.apache.hadoop.fs.permission.FsAction;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.client.HdfsAdmin;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream.SyncFlag;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.DatanodeReportType;
import org.apache.hadoop.hdfs.protocol.HdfsConstants.SafeModeAction;
import org.apache.hadoop.hdfs.protocol.OpenFileEntry;
import org.apache.hadoop.hdfs.protocol.OpenFilesIterator.OpenFilesType;

/** Calls of FileSystem, DistributedFileSystem and FileContext by their names, with what they return as text. */
final class Calls {
  private static final long WAIT_NANOS = 60_000_000_000L;

  private final DistributedFileSystem fs;
  private final FileContext context;
  private final HdfsAdmin admin;
  private final Map<String, FSDataOutputStream> writers = new HashMap<>();

  Calls(URI uri, Configuration conf) throws IOException {
    fs = (DistributedFileSystem) FileSystem.newInstance(uri, conf);
    context = FileContext.getFileContext(uri, conf);
    admin = new HdfsAdmin(uri, conf);
  }

  Object call(String name, String... a) throws Exception {
    Path path = a.length > 0 && a[0].startsWith("/") ? new Path(a[0]) : null;
    return switch (name) {
      // Making and taking away.
      case "mkdirs" -> a.length > 1 ? fs.mkdirs(path, mode(a[1])) : fs.mkdirs(path);
      case "mkdir" -> done(() -> context.mkdir(path, mode(a[1]), Boolean.parseBoolean(a[2])));
      case "create" -> written(fs.create(path, false), a[1]);
      case "overwrite" -> written(fs.create(path, true), a[1]);
      case "createWith" -> written(fs.create(path, mode(a[1]), true, 4096, Short.parseShort(a[2]), Long.parseLong(a[3]), null), a[4]);
      case "createFlags" -> written(context.create(path, flags(a[1])), a[2]);
      case "createNonRecursive" -> written(
          fs.createNonRecursive(path, mode("644"), EnumSet.of(CreateFlag.CREATE), 4096, (short) 1, 1 << 20, null), a[1]);
      case "append" -> written(fs.append(path), a[1]);
      case "appendNewBlock" -> written(
          fs.append(path, EnumSet.of(CreateFlag.APPEND, CreateFlag.NEW_BLOCK), 4096, null), a[1]);
      case "concat" -> done(() -> fs.concat(path, paths(a, 1)));
      case "truncate" -> truncate(path, Long.parseLong(a[1]));
      case "delete" -> fs.delete(path, Boolean.parseBoolean(a[1]));
      case "rename" -> fs.rename(path, new Path(a[1]));
      case "renameTo" -> done(() -> context.rename(path, new Path(a[1]), renames(a[2])));
      case "symlink" -> done(() -> context.createSymlink(path, new Path(a[1]), false));
      case "linkTarget" -> context.getLinkTarget(path);

      // Looking.
      case "status" -> status(fs.getFileStatus(path));
      case "linkStatus" -> status(context.getFileLinkStatus(path));
      case "exists" -> fs.exists(path);
      case "times" -> fs.getFileStatus(path).getModificationTime() + " " + fs.getFileStatus(path).getAccessTime();
      case "list" -> lines(Arrays.asList(fs.listStatus(path)));
      case "listIterator" -> lines(all(fs.listStatusIterator(path)));
      case "listLocated" -> located(fs.listLocatedStatus(path));
      case "listFiles" -> located(fs.listFiles(path, Boolean.parseBoolean(a[1])));
      case "listBatch" -> batches(a);
      case "glob" -> glob(a[0]);
      case "blocks" -> blocks(fs.getFileBlockLocations(path, Long.parseLong(a[1]), Long.parseLong(a[2])));
      case "summary" -> summary(fs.getContentSummary(path));
      case "quota" -> quota(fs.getQuotaUsage(path));
      case "checksum" -> fs.getFileChecksum(path);
      case "checksumOf" -> fs.getFileChecksum(path, Long.parseLong(a[1]));
      case "access" -> done(() -> fs.access(path, FsAction.getFsAction(a[1])));
      case "defaults" -> defaults(fs.getServerDefaults(new Path("/")));
      case "usedIsCounted" -> fs.getStatus().getCapacity() > 0;
      case "datanodes" -> fs.getDataNodeStats(DatanodeReportType.valueOf(a[0])).length;
      case "missingBlocks" -> fs.getMissingBlocksCount() + " " + fs.getCorruptBlocksCount();
      case "corruptFiles" -> all(fs.listCorruptFileBlocks(path));
      case "enclosingRoot" -> fs.getEnclosingRoot(path);
      case "trashRoot" -> fs.getTrashRoot(path);
      case "home" -> fs.getHomeDirectory();
      case "resolve" -> fs.resolvePath(path);
      case "service" -> fs.getCanonicalServiceName() != null;

      // Reading.
      case "read" -> read(path);
      case "readAt" -> readAt(path, Long.parseLong(a[1]), Integer.parseInt(a[2]));
      case "readVectored" -> readVectored(path, Arrays.copyOfRange(a, 1, a.length));
      case "seek" -> seek(path, Long.parseLong(a[1]));

      // A file that stays open, by a name.
      case "begin" -> done(() -> writers.put(a[1], fs.create(path, false)));
      case "beginAppend" -> done(() -> writers.put(a[1], fs.append(path)));
      case "write" -> done(() -> writers.get(a[0]).write(a[1].getBytes(StandardCharsets.UTF_8)));
      case "hflush" -> done(() -> writers.get(a[0]).hflush());
      case "hsync" -> done(() -> writers.get(a[0]).hsync());
      case "hsyncLength" -> done(() -> ((HdfsDataOutputStream) writers.get(a[0])).hsync(EnumSet.of(SyncFlag.UPDATE_LENGTH)));
      case "end" -> done(() -> writers.remove(a[0]).close());
      case "isClosed" -> fs.isFileClosed(path);
      case "recoverLease" -> recovered(path);
      case "openFiles" -> openFiles(a[0]);

      // Attributes.
      case "setPermission" -> done(() -> fs.setPermission(path, mode(a[1])));
      case "setOwner" -> done(() -> fs.setOwner(path, orNull(a[1]), orNull(a[2])));
      case "setTimes" -> done(() -> fs.setTimes(path, Long.parseLong(a[1]), Long.parseLong(a[2])));
      case "setReplication" -> fs.setReplication(path, Short.parseShort(a[1]));
      case "setXAttr" -> done(() -> fs.setXAttr(path, a[1], a[2].getBytes(StandardCharsets.UTF_8), xattrFlags(a[3])));
      case "getXAttr" -> new String(fs.getXAttr(path, a[1]), StandardCharsets.UTF_8);
      case "getXAttrs" -> xattrs(a.length == 1 ? fs.getXAttrs(path) : fs.getXAttrs(path, List.of(a).subList(1, a.length)));
      case "listXAttrs" -> new TreeSet<>(fs.listXAttrs(path));
      case "removeXAttr" -> done(() -> fs.removeXAttr(path, a[1]));
      case "modifyAcl" -> done(() -> fs.modifyAclEntries(path, AclEntry.parseAclSpec(a[1], true)));
      case "removeAclEntries" -> done(() -> fs.removeAclEntries(path, AclEntry.parseAclSpec(a[1], false)));
      case "removeDefaultAcl" -> done(() -> fs.removeDefaultAcl(path));
      case "removeAcl" -> done(() -> fs.removeAcl(path));
      case "setAcl" -> done(() -> fs.setAcl(path, AclEntry.parseAclSpec(a[1], true)));
      case "getAcl" -> fs.getAclStatus(path);
      case "setStoragePolicy" -> done(() -> fs.setStoragePolicy(path, a[1]));
      case "unsetStoragePolicy" -> done(() -> fs.unsetStoragePolicy(path));
      case "getStoragePolicy" -> fs.getStoragePolicy(path).getName();
      case "storagePolicies" -> fs.getAllStoragePolicies().stream().map(BlockStoragePolicySpi::getName).sorted().toList();

      // What an administrator does, and features that are off.
      case "safeMode" -> fs.setSafeMode(SafeModeAction.valueOf(a[0]));
      case "setQuota" -> done(() -> fs.setQuota(path, Long.parseLong(a[1]), Long.parseLong(a[2])));
      case "clearQuota" -> done(() -> admin.clearQuota(path));
      case "allowSnapshot" -> done(() -> fs.allowSnapshot(path));
      case "createSnapshot" -> fs.createSnapshot(path, a[1]);
      case "deleteSnapshot" -> done(() -> fs.deleteSnapshot(path, a[1]));
      case "snapshottable" -> Arrays.toString(fs.getSnapshottableDirListing());
      case "cachePools" -> all(fs.listCachePools());
      case "cacheDirectives" -> all(fs.listCacheDirectives(null));
      case "erasureCodingPolicy" -> fs.getErasureCodingPolicy(path);
      case "setErasureCodingPolicy" -> done(() -> fs.setErasureCodingPolicy(path, a[1]));
      case "encryptionZone" -> fs.getEZForPath(path);
      case "encryptionZones" -> all(fs.listEncryptionZones());
      case "createEncryptionZone" -> done(() -> fs.createEncryptionZone(path, a[1]));
      case "delegationToken" -> fs.getDelegationToken(a[0]);
      case "satisfyStoragePolicy" -> done(() -> fs.satisfyStoragePolicy(path));
      case "finalizeUpgrade" -> done(fs::finalizeUpgrade);
      case "upgradeIsFinal" -> fs.upgradeStatus();
      case "balancerBandwidth" -> done(() -> fs.setBalancerBandwidth(Long.parseLong(a[0])));
      case "refreshNodes" -> done(fs::refreshNodes);
      case "metaSave" -> done(() -> fs.metaSave(a[0]));
      case "rollEdits" -> fs.rollEdits() > 0;
      case "saveNamespace" -> fs.saveNamespace(0, 0);
      case "msync" -> done(fs::msync);
      default -> throw new IllegalArgumentException("no call " + name);
    };
  }

  private interface Body {
    void run() throws Exception;
  }

  private static String done(Body body) throws Exception {
    body.run();
    return "done";
  }

  private static String written(FSDataOutputStream out, String text) throws IOException {
    try (out) {
      out.write(text.getBytes(StandardCharsets.UTF_8));
    }
    return "done";
  }

  private static FsPermission mode(String octal) {
    return new FsPermission((short) Integer.parseInt(octal, 8));
  }

  private static String orNull(String word) {
    return word.equals("-") ? null : word;
  }

  private static Path[] paths(String[] words, int from) {
    return Arrays.stream(words).skip(from).map(Path::new).toArray(Path[]::new);
  }

  private static EnumSet<CreateFlag> flags(String names) {
    EnumSet<CreateFlag> flags = EnumSet.noneOf(CreateFlag.class);
    Arrays.stream(names.split(",")).map(CreateFlag::valueOf).forEach(flags::add);
    return flags;
  }

  private static EnumSet<XAttrSetFlag> xattrFlags(String names) {
    EnumSet<XAttrSetFlag> flags = EnumSet.noneOf(XAttrSetFlag.class);
    Arrays.stream(names.split(",")).map(XAttrSetFlag::valueOf).forEach(flags::add);
    return flags;
  }

  private static Options.Rename[] renames(String names) {
    return Arrays.stream(names.split(",")).map(Options.Rename::valueOf).toArray(Options.Rename[]::new);
  }

  private static String status(FileStatus status) {
    String name = status.getPath().toUri().getPath();
    return String.join(" ", name, status.isDirectory() ? "directory" : status.isFile() ? "file" : "symlink",
        status.getPermission().toString(), status.getOwner(), status.getGroup(), "length=" + status.getLen(),
        "replication=" + status.getReplication(), "block=" + status.getBlockSize(), status.hasAcl() ? "acl" : "no-acl");
  }

  private static <T> List<T> all(RemoteIterator<T> iterator) throws IOException {
    List<T> all = new ArrayList<>();
    while (iterator.hasNext()) {
      all.add(iterator.next());
    }
    return all;
  }

  private static String lines(List<? extends FileStatus> all) {
    return all.size() + String.join("", all.stream().map(status -> "\n" + status(status)).toList());
  }

  private static String located(RemoteIterator<LocatedFileStatus> iterator) throws IOException {
    StringBuilder text = new StringBuilder();
    for (LocatedFileStatus status : all(iterator)) {
      text.append(status(status)).append(' ').append(blocks(status.getBlockLocations())).append('\n');
    }
    return text.toString();
  }

  private static String blocks(BlockLocation[] blocks) throws IOException {
    StringBuilder text = new StringBuilder();
    for (BlockLocation block : blocks) {
      text.append('[').append(block.getOffset()).append('+').append(block.getLength()).append(" on ");
      text.append(block.getHosts().length).append(block.isCorrupt() ? " corrupt" : "").append(']');
    }
    return text.toString();
  }

  private String batches(String[] names) throws IOException {
    StringBuilder text = new StringBuilder();
    for (PartialListing<FileStatus> part : all(fs.batchedListStatusIterator(List.of(paths(names, 0))))) {
      text.append(part.getListedPath().toUri().getPath()).append(": ").append(lines(part.get())).append('\n');
    }
    return text.toString();
  }

  private String glob(String pattern) throws IOException {
    FileStatus[] found = fs.globStatus(new Path(pattern));
    return found == null ? "null" : lines(Arrays.asList(found));
  }

  private static String summary(ContentSummary summary) {
    return "directories=" + summary.getDirectoryCount() + " files=" + summary.getFileCount() + " length=" + summary.getLength()
        + " space=" + summary.getSpaceConsumed() + " " + quota(summary);
  }

  private static String quota(QuotaUsage usage) {
    return "names=" + usage.getFileAndDirectoryCount() + " quota=" + usage.getQuota() + " spaceQuota=" + usage.getSpaceQuota()
        + " space=" + usage.getSpaceConsumed();
  }

  private static String defaults(FsServerDefaults defaults) {
    return "block=" + defaults.getBlockSize() + " chunk=" + defaults.getBytesPerChecksum() + " packet=" + defaults.getWritePacketSize()
        + " replication=" + defaults.getReplication() + " checksum=" + defaults.getChecksumType()
        + " encrypted=" + defaults.getEncryptDataTransfer() + " policy=" + defaults.getDefaultStoragePolicyId();
  }

  private static String xattrs(Map<String, byte[]> found) {
    Map<String, String> text = new TreeMap<>();
    found.forEach((name, value) -> text.put(name, new String(value, StandardCharsets.UTF_8)));
    return text.toString();
  }

  private String read(Path path) throws IOException {
    try (FSDataInputStream in = fs.open(path)) {
      return new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
  }

  private String readAt(Path path, long offset, int length) throws IOException {
    try (FSDataInputStream in = fs.open(path)) {
      byte[] bytes = new byte[length];
      int count = in.read(offset, bytes, 0, length);
      return count + " " + new String(bytes, 0, Math.max(count, 0), StandardCharsets.UTF_8);
    }
  }

  private String readVectored(Path path, String[] places) throws Exception {
    List<FileRange> ranges = new ArrayList<>();
    for (String place : places) {
      String[] parts = place.split("\\+");
      ranges.add(FileRange.createFileRange(Long.parseLong(parts[0]), Integer.parseInt(parts[1])));
    }
    StringBuilder text = new StringBuilder();
    try (FSDataInputStream in = fs.open(path)) {
      in.readVectored(ranges, ByteBuffer::allocate);
      for (FileRange range : ranges) {
        text.append('[').append(StandardCharsets.UTF_8.decode(range.getData().get())).append(']');
      }
    }
    return text.toString();
  }

  private String seek(Path path, long offset) throws IOException {
    try (FSDataInputStream in = fs.open(path)) {
      in.seek(offset);
      return in.getPos() + " " + in.read();
    }
  }

  /** Cuts and waits until it is done; what the call itself returns is one's own matter. */
  private String truncate(Path path, long length) throws Exception {
    boolean isDone = fs.truncate(path, length);
    await(() -> fs.isFileClosed(path));
    return isDone + " " + fs.getFileStatus(path).getLen();
  }

  private String recovered(Path path) throws Exception {
    await(() -> fs.recoverLease(path));
    return "recovered " + fs.getFileStatus(path).getLen();
  }

  private interface Condition {
    boolean isSo() throws Exception;
  }

  private static void await(Condition condition) throws Exception {
    long until = System.nanoTime() + WAIT_NANOS;
    while (!condition.isSo()) {
      if (System.nanoTime() > until) {
        throw new FileNotFoundException("it has not come in time");
      }
      Thread.sleep(20);
    }
  }

  private String openFiles(String prefix) throws IOException {
    TreeSet<String> open = new TreeSet<>();
    for (OpenFileEntry entry : all(fs.listOpenFiles(EnumSet.of(OpenFilesType.ALL_OPEN_FILES), prefix))) {
      open.add(entry.getFilePath());
    }
    return open.toString();
  }
}
